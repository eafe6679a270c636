"""The parts of mine: what it reads, what ranks passages for a query, and how negatives are drawn from that.

inputs.py  pairs, passages, and what the input knows as positive
generated.py  a version of generated_queries, where a file would be
dense.py   `DenseIndex`: ranks by a bi-encoder's vectors, encoded once into teacher_vectors (BM25: pipelines/search)
consistency.py  which pairs are believed, by the positive's rank for its query
draw.py    `mine_negatives`: ranks by each miner, positive-aware, then draws
"""
