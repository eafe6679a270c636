"""The parts of generate: passages in, for each a query that a model wrote, and the passages that answer it or do not.

config.py    what is asked of which model, and what of that is the generator's identity
passages.py  files of passages as rows, each text once
prompts.py   what the model is told
answers.py   its answers, checked: values, or the reason why they cannot be used
ranking.py   candidates for a query, and which of them becomes the positive and the negative
endpoint.py  the client of an OpenAI-compatible endpoint: pace, retries, what an error means
rows.py      one passage's calls as a row of generated_queries
asking.py    many passages at once, in a thread of their own; budget, outages, a clean end
commits.py   what is left to ask, and finished rows into the table, each passage once
price.py     what all of it will cost, from a sample
"""
