"""What is left for a teacher to read: counted exactly, by ids; and the texts of a chunk, as an actor has them.

A cross-encoder reads pairs, each once. A bi-encoder reads texts: of triplets each once in a chunk, as query and as
passage; with `--vectors`, each once. No Ray.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import polars as pl

from pipelines.scoring.pairs import SIDES, pairs_to_score
from pipelines.scoring.streams import PairStream, TeacherStream
from pipelines.storage import QueryRange, TableVersion
from pipelines.streaming.stream import Plan
from pipelines.teachers.config import KINDS

ROWS_AT_ONCE = 500_000
"""The ids of so many rows are in memory at once while they are counted."""
CHUNKS = {"chunk": pl.Int64, "rows": pl.Int64, "pairs": pl.Int64, "read": pl.Int64}


def reads_pairs(stream: TeacherStream) -> bool:
    """Whether the teacher reads a pair at a time, else a text."""
    return KINDS[stream.config.teacher_kind].unit == "logits"


def count(plan: Plan, chunks: Sequence[QueryRange]) -> pl.DataFrame:
    """Of each chunk (`chunk` is its number) the rows that are left, their unique pairs without a score, and what the
    teacher reads: pairs or texts. Streams of texts have no pairs."""
    stream, starts = plan.stream, [chunk.lower for chunk in chunks]
    numbers = {bucket: bisect_right(starts, bucket) - 1 for bucket in plan.buckets}
    of_buckets = pl.DataFrame({"chunk": numbers.values(), "rows": plan.buckets.values()}, schema_overrides=CHUNKS)
    rows = of_buckets.group_by("chunk").agg(pl.col("rows").sum()).sort("chunk")
    if not isinstance(stream, PairStream):
        return rows.with_columns(pairs=pl.lit(0, pl.Int64), read="rows").select(CHUNKS.keys())
    newest, counted = stream.newest(), [pl.DataFrame(schema=CHUNKS).drop("rows")]
    for several in _side_by_side(chunks, rows["rows"].to_list()):
        pairs = unscored(stream, several, newest)
        number = pl.col("query_id").str.head(3).replace_strict(numbers, return_dtype=pl.Int64)
        texts = pl.col("query_id").n_unique() + pl.col("passage_id").n_unique()
        read = (pl.len() if reads_pairs(stream) else texts).cast(pl.Int64)
        counted.append(pairs.group_by(chunk=number).agg(pairs=pl.len().cast(pl.Int64), read=read))
    return rows.join(pl.concat(counted), on="chunk", how="left").fill_null(0).select(CHUNKS.keys())


def _side_by_side(chunks: Sequence[QueryRange], rows: Sequence[int]) -> Iterator[QueryRange]:
    """Ranges of whole neighbouring chunks, of about ROWS_AT_ONCE rows."""
    first, held = 0, 0
    for number, num_rows in enumerate(rows):
        held += num_rows
        if held >= ROWS_AT_ONCE or number == len(rows) - 1:
            yield QueryRange(chunks[first].lower, chunks[number].upper)
            first, held = number + 1, 0


def unscored(stream: PairStream, id_range: QueryRange, newest: TableVersion | None) -> pl.DataFrame:
    """query_id and passage_id of each pair of a range that has no score yet, neither its own nor one by two vectors."""
    rows = stream.left(id_range, newest)
    sides = [rows.select("query_id", passage_id=f"{side}_id") for side in SIDES]
    pairs = pl.concat(sides).unique().collect(engine="streaming")
    if newest is not None:
        scored = newest.scan().filter(id_range.contains("query_id") & stream.is_good())
        known = pl.concat([scored.select("query_id", passage_id=f"{side}_id") for side in SIDES]).unique()
        pairs = pairs.join(known.collect(engine="streaming"), on=pairs.columns, how="anti")
    vectors = stream.source.tables.newest("teacher_vectors")
    if vectors is None or not len(pairs):
        return pairs
    ids = pl.concat([pairs["query_id"], pairs["passage_id"]]).unique()
    is_ours = (pl.col("teacher") == pl.lit(stream.maker)) & pl.col("text_id").is_in(ids.implode())
    stored = vectors.scan().filter(is_ours).select("text_id", "kind").collect(engine="streaming")
    encoded = pairs
    for kind in ("query", "passage"):
        of_kind = stored.filter(pl.col("kind") == kind).select(pl.col("text_id").alias(f"{kind}_id"))
        encoded = encoded.join(of_kind, on=f"{kind}_id", how="semi")
    return pairs.join(encoded, on=pairs.columns, how="anti")


def to_read(stream: TeacherStream, id_range: QueryRange) -> pl.DataFrame:
    """What the teacher reads of a chunk: `cluster` (the texts of one are alike), `kind`, `query` (of pairs), `text`."""
    newest = stream.newest()
    rows = stream.left(id_range, newest).collect(engine="streaming")
    if not isinstance(stream, PairStream):
        return _texts(rows.select("text_id", "kind", "text"))
    (known,) = stream.beside(rows, id_range, newest)
    pairs = pairs_to_score(rows).join(known, on=["query_id", "passage_id"], how="anti", maintain_order="left")
    if reads_pairs(stream):
        return pairs.select(cluster="query_id", kind=pl.lit("pair"), query="query", text="passage")
    queries = pairs.select(text_id="query_id", kind=pl.lit("query"), text="query")
    passages = pairs.select(text_id="passage_id", kind=pl.lit("passage"), text="passage")
    return _texts(pl.concat([queries, passages]).unique(["text_id", "kind"], maintain_order=True))


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(cluster="text_id", kind="kind", query=pl.lit(""), text="text")
