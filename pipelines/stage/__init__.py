"""What every stage has: config, one refusal, progress, tables as text, paths as typed. Imports nothing else of ours."""
