"""The parts of generate: passages in, for each a query that a model wrote, and the passages that answer it or do not.

config.py    what is asked of which model, and what of that is the generator's identity
passages.py  files of passages as rows, each text once
prompts.py   what the model is told
answers.py   its answers, checked: values, or the reason why they cannot be used
ranking.py   candidates for a query, and which of them becomes the positive and the negative, by grades or scores
rows.py      one passage's calls as a row of generated_queries
commits.py   what of the passages is left to ask, and the table of their rows
price.py     the characters of the prompts, which the price follows

How many are asked at once, exactly once and at which price: pipelines/asking.
"""
