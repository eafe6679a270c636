"""The parts of mine: what it reads, what ranks passages for a query, and how negatives are drawn from that.

inputs.py  reads pairs and passages: pairs into a `Spooled` file (spooled.py)
known.py   what the whole input says of its queries: positives, given negatives, what may not be drawn (as lists.py)
passages.py  the passages to draw from, and which of them count as one
generated.py  a version of generated_queries, where a file would be
dense.py   `DenseIndex`: ranks by a bi-encoder's vectors, encoded once into teacher_vectors (BM25: pipelines/search)
consistency.py  which pairs are believed, by the positive's rank for its query
draw.py    `mine_negatives`: ranks by each miner, positive-aware, then draws
"""
