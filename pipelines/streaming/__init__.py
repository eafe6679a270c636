"""Rows of a table through Ray Data actors into a table, each exactly once, whatever is killed or runs beside it.

stream.py     `Stream`: what a user provides, by a subclass (see pipelines/scoring/streams.py); `Plan`: what is left
pipeline.py   a chunk read, made into rows by an actor, written: Ray Data over a pool of actors
watch.py      an actor that keeps dying ends the run, one that gets nowhere is named
rehearsal.py  as many actors as a run would have, asked directly
commits.py    `drain(Plan.of(stream))`, with Ray connected: files in groups by compare-and-set, until nothing is left
config.py     `StreamConfig`: actors, chunks, commits; the user's config inherits it
"""
