"""A bi-encoder's vector of each text, once: what runs on the cluster for one chunk of texts.

Chunks are ranges of text_id. Texts are not clustered by their own id, so each chunk scans the id columns of the
triplets version: take chunks as large as memory allows (`score.chunk_rows`) where the corpus is large.
"""

import numpy as np
import polars as pl

from pipelines.scoring.pairs import Row, Share, TeacherActor, pack
from pipelines.storage import QueryRange, TableVersion
from schemas import TeacherVectors

KINDS = {"query": ("query",), "passage": ("positive", "negative")}


def unencoded(
    triplets: TableVersion, vectors: TableVersion | None, teacher: str, chunk: QueryRange, share: Share
) -> pl.LazyFrame:
    """Lazily, (text_id, kind, text) of a range of text ids that have no vector by this teacher, each once."""
    rows = triplets.scan().filter(share.contains())
    sides = [
        rows.filter(chunk.contains(f"{side}_id")).select(
            text_id=pl.col(f"{side}_id"), kind=pl.lit(kind), text=pl.col(side)
        )
        for kind, columns in KINDS.items()
        for side in columns
    ]
    texts = pl.concat(sides).unique(["text_id", "kind"])
    if vectors is None:
        return texts
    done = vectors.scan().filter(chunk.contains("text_id") & (pl.col("teacher") == pl.lit(teacher)))
    return texts.join(done.select("text_id", "kind"), on=["text_id", "kind"], how="anti")


def read_texts(row: Row, triplets: TableVersion, teacher: str, share: Share) -> Row:
    """The chunk's texts to encode, against the newest version of the vectors."""
    vectors = triplets.tables.latest("teacher_vectors")
    texts = unencoded(triplets, vectors, teacher, QueryRange(row["lower"], row["upper"]), share)
    rows = texts.collect(engine="streaming").sort("text_id", "kind")
    return {**row, "base": -1 if vectors is None else vectors.version, "rows": pack(rows)}


class TextEncoder(TeacherActor):
    """Encodes the texts of a chunk. A text that cannot be encoded gets no vector; its pairs get their scoring_error."""

    def work(self, rows: pl.DataFrame, row: Row) -> pl.DataFrame:
        from pipelines.teachers.bi_encoder import BiEncoderTeacher  # torch: read tasks do without

        assert isinstance(self.teacher, BiEncoderTeacher), "score.run asks for vectors of bi-encoders only"
        encoded = []
        for kind in KINDS:
            texts = rows.filter(pl.col("kind") == kind)
            vectors, tokens_cut, error = self.teacher.embed(
                texts["text"].to_list(), "query" if kind == "query" else "passage"
            )
            good = np.array([why is None for why in error], dtype=bool)
            encoded.append(
                texts.select("text_id", teacher=pl.lit(self.teacher.name), kind="kind")
                .with_columns(
                    vector=pl.Series(vectors).arr.to_list(),
                    tokens_cut=pl.Series(tokens_cut, dtype=pl.Int32),
                )
                .filter(pl.Series(good))
            )
        return pl.concat(encoded).sort("text_id", "kind").select(TeacherVectors.polars_schema().keys())
