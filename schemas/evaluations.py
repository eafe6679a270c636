"""evaluations: one row per model, data set, query, dimension and metric. Key: those five.

Written by pipelines/evaluate.py: a re-evaluation replaces its rows.
`model_id` is a model, "untrained:NAME@...", "int8:NAME@...", "binary:NAME@...", a teacher's name, or "bm25"; systems
without vectors have dimension 0.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ListOfStrings, Table


class Evaluations(Table):
    model_id: str
    data_set: str  # "curated_triplets@7/test" or "beir/scifact@digest"
    query_id: str
    dimension: pl.Int64 = pa.Field(ge=0)
    metric: str  # as ir_measures prints it: nDCG@10, RR@10, R@100
    value: float = pa.Field(ge=0, le=1)
    ranked_ids: ListOfStrings = pa.Field(nullable=True)  # the ten best passages, in rows of nDCG@10; else null

    class Config:
        name = "evaluations"
        unique = ["model_id", "data_set", "query_id", "dimension", "metric"]
        metadata = {"statistics": ["model_id", "data_set"]}
