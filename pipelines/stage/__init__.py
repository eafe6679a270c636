"""What every stage has: a config, one kind of refusal, progress, tables as text, room on the disk.

Imports nothing else of ours.
"""
