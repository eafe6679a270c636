"""The command line: one thin module per command, named runs in recipes/, the one Ray connection in cluster.py."""
