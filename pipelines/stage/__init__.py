"""What every stage has: config, one refusal, progress, tables as text, a terminal, paths, the disk, the cluster,
the precision of a CPU.

Imports nothing else of ours.
"""
