"""The parts of the score stage: what it streams (pipelines/streaming does it), and what a teacher makes of it.

config.py    every number of a scoring run
precision.py `settled`: what precision "auto" is in this root
streams.py   `PairStream`: triplets -> scored_triplets; `TextStream`, `PlainTextStream`: texts -> teacher_vectors
variation.py `copies_of`: varied copies of the passages in training, texts like any others to the teacher
pairs.py     `score_triplets`: each unique (query, passage) once, by the teacher or from known scores and vectors
"""
