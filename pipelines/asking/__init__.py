"""Many questions to a model behind an OpenAI-compatible endpoint, each answer a row, exactly once.

config.py      what every stage that asks has of its own: endpoint, model, pace, retries, price, budget
endpoint.py    the client: one question, one answer, what an error means
completion.py  an answer as the response's body has it
prompts.py     a prompt's {places}
answers.py     what models put around the JSON that was asked for
rows.py        one row's calls: what they cost, and the reason where nothing came of them
many.py        many rows at once, in a thread of their own; budget, outages, a clean end
book.py        what is left to ask, and finished rows into their table, each once
drain.py       all that is left, asked and committed as it comes
price.py       what all of it will cost, from a sample
"""
