"""Triplets to score, of made-up texts, and what a teacher gives them in this process."""

import random

import polars as pl

from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.teachers.config import TeacherConfig, load_teacher, name_teacher
from schemas import Triplets
from tests.rows import frame_of
from tests.tiny import WORDS


def text(seed: str, words: int = 6) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def append_triplets(tables: Tables, first: int, count: int, negatives: int = 2) -> TableVersion:
    """Queries `first` to `first + count`, each with one positive and some negatives, which queries share."""
    rows = [
        {"query": text(f"q{n}", 4), "positive": text(f"p{n}"), "negative": text(f"p{n + 1 + 7 * k}")}
        for n in range(first, first + count)
        for k in range(negatives)
    ]
    return write_triplets(tables, rows)


def write_triplets(tables: Tables, rows: list[dict[str, str]]) -> TableVersion:
    with new_version(tables, Triplets, Lineage("ingest", [], Config())) as writer:
        writer.write(frame_of(Triplets, *rows).sort("query_id"))
    return writer.version


def expected_scores(triplets: TableVersion, config: TeacherConfig) -> pl.DataFrame:
    """The scores that the teacher gives to each triplet on its own, in this process."""
    rows = triplets.scan().collect()
    judge = load_teacher(config)
    sides = {
        f"{side}_score": judge.score(rows["query"].to_list(), rows[side].to_list()).score
        for side in ("positive", "negative")
    }
    return rows.select("triplet_id").with_columns(**{name: pl.Series(values) for name, values in sides.items()})


def assert_each_once(triplets: TableVersion, scored: TableVersion, config: TeacherConfig) -> None:
    rows = scored.scan().filter(pl.col("teacher") == name_teacher(config)).collect()
    expected = expected_scores(triplets, config)
    assert rows["triplet_id"].sort().to_list() == expected["triplet_id"].sort().to_list()
    compared = rows.join(expected, on="triplet_id", suffix="_expected")
    for side in ("positive", "negative"):
        gap = (compared[f"{side}_score"] - compared[f"{side}_score_expected"]).abs().max()
        assert gap <= 1e-5
