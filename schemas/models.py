"""models: one row per trained model. Key: model_id.

Written by pipelines/distill.py (append); read by evaluate, publish and reproduce.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ListOfStrings, Table


class Models(Table):
    model_id: str = pa.Field(str_matches=r"^.+@[0-9a-f]{12}$")  # name@first digits of weights_sha256
    name: str
    weights_sha256: str = pa.Field(str_matches=r"^[0-9a-f]{64}$")
    uri: str  # the sentence-transformers folder
    curated_version: str  # further ones, of training stages, stand in the recipe and among the commit's inputs
    vectors_version: str = pa.Field(nullable=True)
    recipe: str  # JSON: the resolved distill config
    config_fingerprint: str = pa.Field(str_matches=r"^[0-9a-f]{12}$")
    code: str  # JSON: git commit or digest of the sources
    engine: str  # JSON: library versions, device, threads, world size
    seconds: float = pa.Field(ge=0)
    steps: pl.Int64 = pa.Field(ge=0)
    parents: ListOfStrings  # the source model's identity
    dev_ndcg_at_10: float = pa.Field(ge=0, le=1, nullable=True)  # of the step that was taken; null: not measured
    dev_set: str = pa.Field(nullable=True)  # "curated_triplets@7/dev:300q,5000p": what it was measured on

    class Config:
        name = "models"
        unique = ["model_id"]
        metadata = {"statistics": ["model_id"]}
