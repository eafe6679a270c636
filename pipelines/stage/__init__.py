"""What every stage has: config, one refusal, progress, tables as text, a terminal, paths, room on the disk.

Imports nothing else of ours.
"""
