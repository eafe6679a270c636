"""What every stage has: config, one refusal, progress, tables as text, a terminal, paths, the disk, the cluster.

Imports nothing else of ours.
"""
