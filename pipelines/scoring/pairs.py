"""What runs on the cluster for one chunk of a scoring run: read, score, write. No commits and no driver state here.

    read_chunk     rows of the pinned triplets version in a query range, less what this teacher has scored already
    ChunkScorer    an actor with the teacher: each unique (query, passage) of the chunk once
    write_chunk    Pandera, one Parquet file under scored_triplets; what comes back to the driver is small

Between the three a chunk is one row whose `rows` is an Arrow stream: one row cannot be split over blocks, and an
empty chunk still arrives.
"""

import io
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import DataFile, QueryRange, Tables, TableVersion, write_file
from pipelines.teachers.config import TeacherConfig, load_teacher
from schemas import ScoredTriplets, Table

if TYPE_CHECKING:
    from pipelines.teachers.teacher import Teacher

Row = dict[str, Any]

PAIR_SCORES = {"score": pl.Float32, "relevance": pl.Float32, "tokens_cut": pl.Int32, "error": pl.String}
SIDES = ("positive", "negative")


class Share(NamedTuple):
    """A share of the queries, chosen by their id: the same ones every time, and 1 % is part of 5 %."""

    share: float

    def contains(self, column: str = "query_id") -> pl.Expr:
        if self.share >= 1:
            return pl.lit(True)
        position = pl.col(column).str.slice(3, 8).str.to_integer(base=16) / 16**8
        return position < self.share


def unscored(
    triplets: TableVersion, scored: TableVersion | None, teacher: str, chunk: QueryRange, share: Share
) -> pl.LazyFrame:
    """Lazily, the triplets of a query range that this teacher has not scored, at two explicit versions."""
    rows = triplets.scan().filter(chunk.contains("query_id") & share.contains())
    if scored is None:
        return rows
    done = scored.scan().filter(chunk.contains("query_id") & (pl.col("teacher") == pl.lit(teacher)))
    return rows.join(done.select("triplet_id"), on="triplet_id", how="anti")


def read_chunk(row: Row, triplets: TableVersion, teacher: str, share: Share) -> Row:
    """The chunk's rows to score; pairs whose score is known already carry it.

    They are read against the newest scored version, whose number goes along: the commit looks at what came after.
    """
    chunk = QueryRange(row["lower"], row["upper"])
    scored, vectors = (triplets.tables.latest(name) for name in ("scored_triplets", "teacher_vectors"))
    rows = unscored(triplets, scored, teacher, chunk, share).collect().sort("query_id", "triplet_id")
    known = [no_pairs()]
    if scored is not None and len(rows):
        known.append(scored_pairs(scored, teacher, chunk))
    if vectors is not None and len(rows):
        known.append(cosines(pairs_to_score(rows), vectors, teacher))
    pairs = pl.concat(known).unique(["query_id", "passage_id"], keep="first", maintain_order=True)
    return {**row, "base": -1 if scored is None else scored.version, "rows": pack(rows), "known": pack(pairs)}


def no_pairs() -> pl.DataFrame:
    """Known pairs where nothing is known."""
    return pl.DataFrame(schema={"query_id": pl.String, "passage_id": pl.String, **PAIR_SCORES})


def scored_pairs(scored: TableVersion, teacher: str, chunk: QueryRange) -> pl.DataFrame:
    """The pairs of a query range that the teacher has scored without error."""
    of_teacher = (pl.col("teacher") == pl.lit(teacher)) & pl.col("scoring_error").is_null()
    return pairs_of(scored.scan().filter(chunk.contains("query_id") & of_teacher).collect())


def cosines(pairs: pl.DataFrame, vectors: TableVersion, teacher: str) -> pl.DataFrame:
    """The pairs both of whose texts have a vector by this bi-encoder, with the score and relevance these give."""
    ids = pl.concat([pairs["query_id"], pairs["passage_id"]]).unique()
    of_teacher = (pl.col("teacher") == pl.lit(teacher)) & pl.col("text_id").is_in(ids.implode())
    stored = vectors.scan().filter(of_teacher).select("text_id", "kind", "vector", "tokens_cut").collect()
    for side, kind in (("query", "query"), ("passage", "passage")):
        of_kind = stored.filter(pl.col("kind") == kind).drop("kind")
        named = of_kind.rename({"text_id": f"{side}_id", "vector": f"{side}_vector", "tokens_cut": f"{side}_cut"})
        pairs = pairs.join(named, on=f"{side}_id", how="inner", maintain_order="left")
    if not len(pairs):
        return no_pairs()
    query_ND, passage_ND = (_matrix(pairs[f"{side}_vector"]) for side in ("query", "passage"))
    score = (query_ND * passage_ND).sum(axis=1).clip(-1, 1)
    return pairs.select(
        "query_id",
        "passage_id",
        score=pl.lit(pl.Series(score, dtype=pl.Float32)),
        relevance=pl.lit(pl.Series((1 + score) / 2, dtype=pl.Float32)),
        tokens_cut=pl.col("query_cut") + pl.col("passage_cut"),
        error=pl.lit(None, dtype=pl.String),
    )


def _matrix(vectors: pl.Series) -> npt.NDArray[np.float32]:
    """Vectors of one length as rows of a matrix."""
    return vectors.explode().to_numpy().reshape(len(vectors), -1)


def pairs_to_score(rows: pl.DataFrame) -> pl.DataFrame:
    """The unique (query, passage) of some triplets."""
    sides = [rows.select("query_id", "query", passage_id=f"{side}_id", passage=side) for side in SIDES]
    return pl.concat(sides).unique(["query_id", "passage_id"], keep="first", maintain_order=True)


def pairs_of(scored: pl.DataFrame) -> pl.DataFrame:
    """Scored triplets as unique (query_id, passage_id) with their scores."""
    sides = [
        scored.select(
            "query_id",
            pl.col(f"{side}_id").alias("passage_id"),
            pl.col(f"{side}_score").alias("score"),
            pl.col(f"{side}_relevance").alias("relevance"),
            pl.col(f"{side}_tokens_cut").alias("tokens_cut"),
            pl.col("scoring_error").alias("error"),
        )
        for side in SIDES
    ]
    return pl.concat(sides).unique(["query_id", "passage_id"], keep="first", maintain_order=True)


def score_pairs(pairs: pl.DataFrame, teacher: "Teacher") -> pl.DataFrame:
    """(query_id, passage_id) of the pairs with the teacher's score, relevance, tokens cut and error."""
    scores = teacher.score(pairs["query"].to_list(), pairs["passage"].to_list())
    return pairs.select("query_id", "passage_id").with_columns(
        pl.Series("score", scores.score, pl.Float32),
        pl.Series("relevance", scores.relevance, pl.Float32),
        pl.Series("tokens_cut", scores.tokens_cut, pl.Int32),
        pl.Series("error", scores.error, pl.String),
    )


def score_triplets(
    rows: pl.DataFrame, known: pl.DataFrame, name: str, teacher: "Callable[[], Teacher]"
) -> pl.DataFrame:
    """Triplets with their teacher's scores: each unique (query, passage) is scored once, known pairs not at all.

    The teacher is asked for only when there is a pair to score.

    A triplet one of whose pairs the teacher cannot score keeps its row: both scores null, `scoring_error` says why.
    """
    todo = pairs_to_score(rows).join(known, on=["query_id", "passage_id"], how="anti", maintain_order="left")
    fresh = score_pairs(todo, teacher()) if len(todo) else no_pairs()
    by_pair = pl.concat([known.select(fresh.columns), fresh])
    for side in SIDES:
        named = by_pair.rename({"passage_id": f"{side}_id", **{name: f"{side}_{name}" for name in PAIR_SCORES}})
        rows = rows.join(named, on=["query_id", f"{side}_id"], how="left", maintain_order="left")
    error = pl.concat_str(
        [pl.lit(f"{side}: ") + pl.col(f"{side}_error") for side in SIDES], separator="; ", ignore_nulls=True
    )
    scored = rows.with_columns(teacher=pl.lit(name), scoring_error=pl.when(error != "").then(error))
    of_bad_rows = [f"{side}_{name}" for side in SIDES for name in ("score", "relevance")]
    scored = scored.with_columns(pl.when(pl.col("scoring_error").is_null()).then(pl.col(name)) for name in of_bad_rows)
    return scored.select(ScoredTriplets.polars_schema().keys())


class TeacherActor:
    """One teacher on one device, loaded when the first chunk needs it.

    A teacher that cannot be used does not raise here, where Ray would restart the actor for ever: its chunks come
    back unscored with `refused` saying why, and the driver raises.
    """

    def __init__(self, config: TeacherConfig, name: str, threads: int | None) -> None:
        self.config, self.name, self.threads = config, name, threads

    def __call__(self, row: Row) -> Row:
        rows = unpack(row["rows"])
        told = {key: row[key] for key in ("lower", "upper", "base")} | {"refused": ""}
        try:
            return {**told, "rows": pack(self.work(rows, row)) if len(rows) else b""}
        except UserError as error:
            return {**told, "rows": b"", "refused": str(error)}

    def work(self, rows: pl.DataFrame, row: Row) -> pl.DataFrame:
        """What the chunk's rows become."""
        raise NotImplementedError

    @cached_property
    def teacher(self) -> "Teacher":
        if self.threads is not None:
            import torch  # read and write tasks do without

            torch.set_num_threads(self.threads)
        teacher = load_teacher(self.config)
        if teacher.name != self.name:
            raise UserError(
                f"a worker's copy of teacher {self.config.teacher} is {teacher.name}, the driver's is {self.name}; put "
                f"the same files on every node, or give a hub id with teacher_revision, or an s3:// folder"
            )
        return teacher


class ChunkScorer(TeacherActor):
    """Scores the pairs of a chunk of triplets."""

    def work(self, rows: pl.DataFrame, row: Row) -> pl.DataFrame:
        return score_triplets(rows, unpack(row["known"]), self.name, lambda: self.teacher)


def write_chunk(row: Row, tables: Tables, table: type[Table]) -> Row:
    """Validate the chunk and write it as one file, not yet part of any version."""
    told = {key: row[key] for key in ("lower", "upper", "base", "refused")}
    rows = unpack(row["rows"]) if row["rows"] else pl.DataFrame()
    if not len(rows):
        return {**told, **DataFile("", 0, 0, "")._asdict(), "num_errors": 0}
    num_errors = len(rows) - rows["scoring_error"].null_count() if "scoring_error" in rows.columns else 0
    return {**told, **write_file(tables, table, rows)._asdict(), "num_errors": num_errors}


def pack(frame: pl.DataFrame) -> bytes:
    """A frame as an Arrow stream."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


def unpack(stream: bytes) -> pl.DataFrame:
    """`pack`, undone."""
    return pl.read_ipc_stream(io.BytesIO(stream))
