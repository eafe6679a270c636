"""What a report costs: a process of its own over many made-up rows, in seconds, memory and bytes of the page.

REPORT_ROWS=10000000 .venv/bin/python -m pytest -m slow tests/pipelines/report/test_gather.py -s
"""

import os
import sys

import numpy as np
import polars as pl
import pytest

from pipelines.benchmarks.scale import run
from pipelines.curate import CurateConfig
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import Completion, CurationResult, EvaluationResult, OutcomeCount, ScoringResult
from schemas import CuratedTriplets, DroppedTriplets, Evaluations, ScoredTriplets, Triplets
from tests.reported import MODEL, write_model
from tests.rows import frame_of
from tests.scored_versions import JUDGE, ScoringConfig

ROWS = int(os.environ.get("REPORT_ROWS", "1000000"))
ROWS_AT_ONCE = 250_000
PER_QUERY = 5
MOST_SECONDS, MOST_MB, MOST_BYTES = 60, 2_000, 2_000_000
WORDS = [
    f"{first}{second}" for first in "bdfgklmnprst" for second in ("ale", "ort", "in", "usk", "eam", "ollow", "ide")
]


def made_up(first: int, rows: int, total: int) -> pl.DataFrame:
    """Scored rows, sorted by query_id: 5 a query, 12 sources of which one is rotten, 600 characters each."""
    random = np.random.default_rng(first)
    places = np.arange(first, first + rows)
    query_ids = (places // PER_QUERY * (2**60 // (total // PER_QUERY + 1))).astype(">u8").tobytes().hex()
    others = random.integers(0, 2**63, size=(rows, 6)).astype(">u8").tobytes().hex()
    ids = [others[32 * at : 32 * at + 32] for at in range(3 * rows)]
    source = random.integers(0, 12, rows)
    positive = np.where((source == 7) & (random.random(rows) < 0.3), -3.0, random.normal(3, 2, rows))
    pool = [" ".join(random.choice(WORDS, 45)) for _ in range(2_000)]
    drawn = random.integers(0, 2**40, (3, rows)).tolist()  # each text is one of its own: no dictionary holds them
    words = [[f"{number:x} {pool[number % 2_000]}" for number in of_side] for of_side in drawn]
    return pl.DataFrame(
        {
            "triplet_id": ids[:rows],
            "query_id": [query_ids[16 * at : 16 * at + 16].ljust(32, "0") for at in range(rows)],
            "positive_id": ids[rows : 2 * rows], "negative_id": ids[2 * rows :],
            "query": [text[:60] for text in words[0]], "positive": words[1], "negative": words[2],
            "source": [f"source {number}" for number in source], "source_file": "made up", "source_row": places + 1,
            "teacher": JUDGE, "positive_score": positive, "negative_score": random.normal(-1, 2, rows),
            "positive_relevance": 0.5, "negative_relevance": 0.5,
            "positive_tokens_cut": random.integers(0, 2, rows), "negative_tokens_cut": 0, "split": "train",
            "curation": "0" * 12, "scored_version": "scored_triplets@0",
        }
    ).with_columns(teacher_margin=pl.col("positive_score") - pl.col("negative_score"))  # fmt: skip


def columns(table, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as a table has them; null where they have no such column."""
    schema = table.polars_schema()
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema.items()
    )


def write_root(tables: Tables, total: int) -> tuple[TableVersion, TableVersion]:
    """Scored triplets and two curations of them, as score and curate would have left them."""
    with new_version(tables, Triplets, Lineage("ingest", [], ScoringConfig())) as triplets:
        triplets.write(columns(Triplets, made_up(0, 1, total)))
    lineage = Lineage("score", [triplets.version], ScoringConfig())
    with new_version(tables, ScoredTriplets, lineage) as scored:
        for first in range(0, total, ROWS_AT_ONCE):
            scored.write(columns(ScoredTriplets, made_up(first, min(ROWS_AT_ONCE, total - first), total)))
        complete = Completion(teacher=JUDGE, teacher_kind="cross_encoder", triplets=str(triplets.version), rows=total)
        scored.result = ScoringResult(teacher=JUDGE, rows=total, complete=complete)
    inputs = [scored.version, triplets.version]
    return write_curation(tables, inputs, total, least=1.0), write_curation(tables, inputs, total, least=0.5)


def write_curation(tables: Tables, inputs: list[TableVersion], total: int, *, least: float) -> TableVersion:
    """Rows with a margin of `least` are kept, the others dropped."""
    config = CurateConfig.model_validate({"cross_encoder": {"min_teacher_margin": least}})
    lineage, curation = Lineage("curate", inputs, config), f"{round(10 * least):012x}"
    with (
        new_version(tables, CuratedTriplets, lineage, mode="overwrite") as curated,
        new_version(tables, DroppedTriplets, lineage, mode="overwrite") as dropped,
    ):
        for first in range(0, total, ROWS_AT_ONCE):
            rows = made_up(first, min(ROWS_AT_ONCE, total - first), total)
            reason = pl.when(pl.col("teacher_margin") < 0).then(pl.lit("teacher_prefers_negative"))
            judged = rows.with_columns(
                drop_reason=reason.when(pl.col("teacher_margin") < least).then(pl.lit("margin_too_small")),
                curation=pl.lit(curation),
            )
            is_kept = pl.col("drop_reason").is_null()
            curated.write(columns(CuratedTriplets, judged.filter(is_kept)))
            dropped.write(columns(DroppedTriplets, judged.filter(~is_kept)))
        counts = (OutcomeCount(source="source 0", outcome="kept", rows=total),)
        told = {"curation": curation, "teacher": JUDGE, "teacher_kind": "cross_encoder", "triplets": total}
        curated.result = dropped.result = CurationResult(**told, counts=counts)
    return curated.version


def evaluate_lost_queries(tables: Tables, curated: TableVersion, total: int) -> None:
    """A model that loses ten queries to its teacher, ranking passages that stand anywhere in the table."""
    write_model(tables, curated)
    places = range(0, min(ROWS_AT_ONCE, total), max(1, min(ROWS_AT_ONCE, total) // 40))
    rows = made_up(0, min(ROWS_AT_ONCE, total), total).select("query_id", "positive_id")[list(places)].rows()
    rows, others = rows[:10], [positive for _, positive in rows[10:]]
    with new_version(tables, Evaluations, Lineage("evaluate", [curated], CurateConfig())) as evaluations:
        for system, value in ((MODEL, 0.1), (JUDGE, 0.9)):
            told = {"model_id": system, "dimension": 4, "metric": "nDCG@10", "value": value}
            ranked = [
                {"query_id": query, "ranked_ids": [*(others[3 * at : 3 * at + 3] if system == MODEL else ()), positive]}
                for at, (query, positive) in enumerate(rows)
            ]
            evaluations.write(frame_of(Evaluations, *ranked, **told, data_set=f"{curated}/test"))
        sizes = {f"{curated}/test": {"queries": len(rows), "passages": total}}
        evaluations.result = EvaluationResult(systems={MODEL: "student", JUDGE: "teacher"}, sizes=sizes)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_many_rows_need_seconds_flat_memory_and_a_small_page(tmp_path):
    tables, page = Tables.at(str(tmp_path / "tables")), tmp_path / "report.html"
    before, curated = write_root(tables, ROWS)
    evaluate_lost_queries(tables, curated, ROWS)

    for options in ([], ["--against", str(before)]):
        used = run([sys.executable, "-m", "jobs", "report", "--tables", tables.uri, "--to", str(page), *options])

        size, told = page.stat().st_size, " ".join(options)
        print(f"\n{ROWS:,} rows {told}: {used['seconds']} s, {used['peak_mb']} MB, page {size:,} bytes")
        assert used["seconds"] < MOST_SECONDS
        assert used["peak_mb"] < MOST_MB
        assert size < MOST_BYTES
    source = page.read_text(encoding="utf-8")
    assert 'data-figure="moved_rows"' in source
    assert f'<data value="{ROWS}" data-figure="rows">{ROWS:,}</data>' in source
    assert source.count("student #1, teacher beyond 10") == 10, "texts of passages of other queries were found"
