"""What every stage has: a config, one kind of refusal, progress, tables as text. Imports nothing else of ours."""
