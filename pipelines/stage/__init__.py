"""What every stage has: a config, one kind of refusal, a line of progress. Imports nothing else of ours."""
