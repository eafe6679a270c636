"""The parts of relabel: suspected false negatives in, for each what a model says of it.

config.py    which pairs are suspected, what is asked of which model, and what of that is the judge's identity
suspects.py  pairs of a query and a passage whose negative the teacher scores close to, or above, its positive
verdicts.py  the prompt filled in, and the answer as a row of passage_judgements

How many are asked at once, exactly once and at which price: pipelines/asking.
"""
