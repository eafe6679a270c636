"""The parts of the score stage: what it streams (pipelines/streaming does it), and what a teacher makes of it.

config.py    every number of a scoring run
precision.py `settled`: what precision "auto" is in this root
engine_check.py  does a teacher give the same scores on another engine
streams.py   `PairStream`: triplets -> scored_triplets; `TextStream`, `PlainTextStream`: texts -> teacher_vectors
encoding.py  `encode`: texts that came by themselves, or with pairs, into teacher_vectors
pair_encoder.py  `PairEncoder`: the bi-encoder that mine works with
variation.py `copies_of`: varied copies of the passages in training, texts like any others to the teacher
workload.py  what is left for the teacher to read, counted by ids
price.py     `price`: what a run will take, by the teacher itself on a sample: calibration.py times it on the actors,
             forecast.py is the arithmetic
pairs.py     `score_triplets`: each unique (query, passage) once, by the teacher or from known scores and vectors
"""
