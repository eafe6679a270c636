"""A small curated_triplets version to train on: made-up texts of the tiny tokenizers' words, scored by overlap."""

import random
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.curate import CurateConfig
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.texts.ids import text_id
from schemas import CuratedTriplets, TeacherVectors
from tests.curated_versions import curated
from tests.rows import frame_of
from tests.scored_versions import Row
from tests.tiny import WORDS


def write_curated(
    tables: Tables, num_queries: int = 40, num_negatives: int = 3, seed: int = 0, split: str = "train"
) -> TableVersion:
    """A version of `num_queries` queries with one positive each and negatives from a small shared pool."""
    words = random.Random(seed)
    pool = [" ".join(words.choices(WORDS, k=words.randint(3, 24))) for _ in range(num_queries)]
    rows = []
    for index in range(num_queries):
        query = " ".join(words.choices(WORDS, k=words.randint(2, 6))) + f" {index}"
        positive = f"{query} " + " ".join(words.choices(WORDS, k=words.randint(1, 12)))
        rows += [curated_row(query, positive, negative, split) for negative in words.sample(pool, num_negatives)]
    return commit_curated(tables, rows)


def write_judged(folder: Path, num_queries: int, config: CurateConfig) -> TableVersion:
    """A version with `num_queries` queries of the tiny tokenizers' words, each with one positive and two negatives."""
    words = random.Random(7)
    rows: list[Row] = []
    for number in range(num_queries):
        query = f"{' '.join(words.choices(WORDS, k=4))} {number}"
        positive = f"{query} {' '.join(words.choices(WORDS, k=5))}"
        negatives = [f"{' '.join(words.choices(WORDS, k=8))} {number}" for _ in range(2)]
        rows += [(query, positive, 5.0, negative, -5.0) for negative in negatives]
    return curated(folder, rows, config)


def curated_row(query: str, positive: str, negative: str, split: str = "train") -> dict[str, object]:
    """What curated_triplets says of three texts; relevance is the share of the query's words that the passage has."""
    relevance = [_overlap(query, positive), _overlap(query, negative)]
    return {
        "query": query,
        "positive": positive,
        "negative": negative,
        "positive_score": 10 * relevance[0] - 5,
        "negative_score": 10 * relevance[1] - 5,
        "positive_relevance": relevance[0],
        "negative_relevance": relevance[1],
        "teacher": "overlap@0123456789ab",
        "split": split,
    }


WIDE = "wide@0123456789ab"


def commit_curated(tables: Tables, rows: list[dict[str, object]], num_blocks: int = 1) -> TableVersion:
    """The rows as one new version of curated_triplets, in `num_blocks` files."""
    frame = frame_of(CuratedTriplets, *rows).sort("query_id", "triplet_id")
    with new_version(tables, CuratedTriplets, Lineage("curate", [], Config()), mode="overwrite") as curated:
        queries = frame["query_id"].unique().sort()
        for block in range(num_blocks):
            curated.write(frame.filter(pl.col("query_id").is_in(queries.gather_every(num_blocks, block).implode())))
    return curated.version


def write_vectors(tables: Tables, curated: TableVersion, width: int, teacher: str = WIDE) -> TableVersion:
    """A unit vector for each text and kind of the curated version, drawn by the text alone."""
    frame = curated.scan().collect()
    kinds = [
        ("query", frame["query"]),
        ("passage", pl.concat([frame["positive"], frame["negative"].alias("positive")])),
    ]
    texts = [(kind, text) for kind, column in kinds for text in column.unique().sort()]
    rows = [{"text_id": text_id(text), "kind": kind, "vector": vector_of(text, width)} for kind, text in texts]
    with new_version(tables, TeacherVectors, Lineage("score", [curated], Config())) as vectors:
        vectors.write(frame_of(TeacherVectors, *rows, teacher=teacher))
    return vectors.version


def vector_of(text: str, width: int) -> list[float]:
    """The made-up teacher's vector of a text."""
    vector = np.random.default_rng(int(text_id(text), 16)).standard_normal(width)
    return list(vector / np.linalg.norm(vector))


def _overlap(query: str, passage: str) -> float:
    words = set(query.split())
    return len(words & set(passage.split())) / len(words)
