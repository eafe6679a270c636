"""A scoring run as the streams it consists of: triplets into scores and, if wanted, texts into vectors.

Plain texts come from files, which other nodes may not see: they lie as one Parquet file under the root while they are
encoded (`staged`), and then stand in teacher_vectors itself.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import polars as pl
import pyarrow
import pyarrow.parquet

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pairs import NO_PAIRS, cosines, each_once, pairs_of, pairs_to_score, score_triplets
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, QueryRange, Tables, TableVersion
from pipelines.storage.commits import Commit, IngestedFile, ScoringEngine, ScoringResult
from pipelines.storage.lineage import engine
from pipelines.storage.ranges import bucket_ranges, count_buckets
from pipelines.streaming.pipeline import device
from pipelines.streaming.stream import Stream
from pipelines.teachers.config import load_teacher
from pipelines.texts.ids import text_id
from pipelines.texts.splits import in_share
from schemas import ScoredTriplets, TeacherVectors

if TYPE_CHECKING:
    from pipelines.teachers.bi_encoder import BiEncoderTeacher, TextKind
    from pipelines.teachers.teacher import Teacher

TEXTS_AT_ONCE = 100_000
"""Plain texts whose ids are compared at a time with those that have a vector."""

TEXT_COLUMNS: "dict[TextKind, tuple[str, ...]]" = {"query": ("query",), "passage": ("positive", "negative")}


@dataclass(frozen=True)
class TeacherStream(Stream):
    """Texts through a teacher, who is the maker: its `name@12hex`."""

    maker_column = "teacher"
    stage: ClassVar[str] = "score"

    config: ScoreConfig

    def engine(self) -> ScoringEngine:
        """What computes the scores: library versions and the kind of device. Another engine moves the last bits."""
        libraries = {name: engine().libraries[name] for name in ("torch", "transformers", "sentence-transformers")}
        return ScoringEngine(device=device(self.config), libraries=libraries)

    def record(self, **result: Any) -> Commit:
        scoring = ScoringResult(teacher=self.maker, engine=self.engine(), **result)
        return Lineage(self.stage, self.inputs(), self.config).commit(self.source.tables.invocation, scoring)

    def inputs(self) -> list[TableVersion]:
        """The versions that the texts come from."""
        return [self.source] if isinstance(self.source, TableVersion) else []

    def load_teacher(self, threads: int | None) -> "Teacher":
        """The teacher on an actor's device. Raises UserError when it is not the driver's."""
        if threads is not None:
            import torch  # read and write tasks do without

            torch.set_num_threads(threads)
        teacher = load_teacher(self.config)
        if teacher.name != self.maker:
            raise UserError(
                f"a worker's copy of teacher {self.config.teacher} is {teacher.name}, the driver's is {self.maker}; "
                f"put the same files on every node, or give a hub id with teacher_revision, or an s3:// folder"
            )
        return teacher


@dataclass(frozen=True)
class TripletStream(TeacherStream):
    """Texts of a triplets version."""

    source: TableVersion
    share: float

    def triplets(self) -> pl.LazyFrame:
        """Those of the share's queries."""
        return self.source.scan().filter(in_share(self.share))


class PairStream(TripletStream):
    """Triplets to their scores; the teacher is loaded for the first pair whose score is not known."""

    table = ScoredTriplets
    id_column = "query_id"
    key: ClassVar = ["triplet_id"]
    counts: ClassVar = {"errors": pl.col("scoring_error").count()}

    def id_ranges(self) -> list[QueryRange]:
        return self.source.query_ranges(max_rows=2_000_000)

    def rows(self, id_range: QueryRange) -> pl.LazyFrame:
        return self.triplets().filter(id_range.contains("query_id"))

    def beside(self, rows: pl.DataFrame, id_range: QueryRange, newest: TableVersion | None) -> tuple[pl.DataFrame, ...]:
        """The pairs whose score is known: the teacher scored them in the same range, or encoded both texts."""
        known = [NO_PAIRS]
        if newest is not None:
            known.append(pairs_of(newest.scan().filter(id_range.contains("query_id") & self.is_good()).collect()))
        vectors = self.source.tables.newest("teacher_vectors")
        if vectors is not None:
            known.append(cosines(pairs_to_score(rows), vectors.scan().filter(pl.col("teacher") == pl.lit(self.maker))))
        return (each_once(known),)

    def is_good(self) -> pl.Expr:
        """Of a row of scored_triplets: whether it has this teacher's scores."""
        return (pl.col("teacher") == pl.lit(self.maker)) & pl.col("scoring_error").is_null()

    def actor(self, threads: int | None) -> Callable[..., pl.DataFrame]:
        return partial(score_triplets, name=self.maker, load=cache(partial(self.load_teacher, threads)))


class VectorStream(TeacherStream):
    """Texts to their vectors, each text once as a query and once as a passage.

    Sources are not clustered by these ids, so each chunk scans all of them: where the corpus is large, take chunks as
    large as memory allows (`score.chunk_rows`).
    """

    table = TeacherVectors
    id_column = "text_id"
    key: ClassVar = ["text_id", "kind"]
    keeps_text: ClassVar[bool] = False

    def actor(self, threads: int | None) -> Callable[..., pl.DataFrame]:
        from pipelines.teachers.bi_encoder import BiEncoderTeacher  # torch: read tasks do without

        teacher = self.load_teacher(threads)
        assert isinstance(teacher, BiEncoderTeacher), "score.run asks for vectors of bi-encoders only"
        return partial(encode_texts, teacher=teacher, keeps_text=self.keeps_text)


class TextStream(VectorStream, TripletStream):
    """The texts of triplets, which hold them."""

    def rows(self, id_range: QueryRange) -> pl.LazyFrame:
        texts = [
            self.triplets().select(text_id=f"{column}_id", kind=pl.lit(kind), text=column)
            for kind, columns in TEXT_COLUMNS.items()
            for column in columns
        ]
        return pl.concat(texts).filter(id_range.contains("text_id")).unique(self.key)


@dataclass(frozen=True)
class StagedTexts:
    """Plain texts as a Parquet file under the root, and the files or the version they came from."""

    tables: Tables
    name: str
    files: tuple[IngestedFile, ...] = ()
    version: TableVersion | None = None

    def scan(self) -> pl.LazyFrame:
        """text_id, kind, text; a text as often as the files have it."""
        uri, options = self.tables.path(self.name), self.tables.polars_options
        return pl.scan_parquet(uri, glob=False, storage_options=options)


@dataclass(frozen=True)
class PlainTextStream(VectorStream):
    """Texts that came by themselves, which teacher_vectors then holds."""

    keeps_text = True

    source: StagedTexts

    def id_ranges(self) -> list[QueryRange]:
        return bucket_ranges(count_buckets(self.source.scan(), self.id_column), TEXTS_AT_ONCE)

    def rows(self, id_range: QueryRange) -> pl.LazyFrame:
        return self.source.scan().filter(id_range.contains("text_id")).unique(self.key)

    def inputs(self) -> list[TableVersion]:
        return [self.source.version] if self.source.version else []

    def record(self, **result: Any) -> Commit:
        return super().record(texts=self.source.files, **result)


class PairTextStream(PlainTextStream):
    """Texts of pairs for which negatives are mined: triplets will hold those that count."""

    stage = "mine"
    keeps_text = False


@contextmanager
def staged(
    tables: Tables,
    batches: "Iterable[tuple[TextKind, list[str]]]",
    *,
    files: Iterable[IngestedFile] = (),
    version: TableVersion | None = None,
) -> Iterator[StagedTexts]:
    """The texts where every node reads them, as long as this lasts; what a kill leaves there may be removed."""
    texts = StagedTexts(tables, f"_texts_{uuid4().hex}.parquet", tuple(files), version)
    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("text_id", "kind", "text")])
    filesystem, root = tables.filesystem()
    filesystem.create_dir(root, recursive=True)
    try:
        with (
            filesystem.open_output_stream(f"{root}/{texts.name}") as file,
            pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for kind, batch in batches:
                columns = [list(map(text_id, batch)), [kind] * len(batch), batch]
                writer.write_table(pyarrow.table(columns, schema=schema))
        yield texts
    finally:
        filesystem.delete_file(f"{root}/{texts.name}")


def encode_texts(texts: pl.DataFrame, teacher: "BiEncoderTeacher", keeps_text: bool = False) -> pl.DataFrame:
    """Rows of teacher_vectors, with their texts if wanted. A text that cannot be encoded gets none.

    The pairs of a triplet's text without a vector get their scoring_error.
    """
    encoded = []
    for kind in TEXT_COLUMNS:
        rows = texts.filter(pl.col("kind") == kind)
        vectors, tokens_cut, error = teacher.embed(rows["text"].to_list(), kind)
        values = {"vector": pl.Series(vectors).arr.to_list(), "tokens_cut": pl.Series(tokens_cut, dtype=pl.Int32)}
        is_good = pl.Series(error, dtype=pl.String).is_null()
        rows = rows if keeps_text else rows.with_columns(text=pl.lit(None, pl.String))
        encoded.append(rows.with_columns(teacher=pl.lit(teacher.name), **values).filter(is_good))
    return pl.concat(encoded).sort("text_id", "kind").select(TeacherVectors.polars_schema().keys())
