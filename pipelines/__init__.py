"""The stages in order: ingest, mine, score, curate, distill, evaluate, publish. They meet only in tables."""
