"""Finding passages for a query: BM25 over words, exact search over vectors. Serves mining and evaluation."""
