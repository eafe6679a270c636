"""A bi-encoder's vectors of texts. Frames in, frames out; no storage."""

from typing import TYPE_CHECKING

import polars as pl

from schemas import TeacherVectors

if TYPE_CHECKING:
    from pipelines.teachers.bi_encoder import BiEncoderTeacher, TextKind

TEXT_COLUMNS: "dict[TextKind, tuple[str, ...]]" = {"query": ("query",), "passage": ("positive", "negative")}


def encode_texts(texts: pl.DataFrame, teacher: "BiEncoderTeacher") -> pl.DataFrame:
    """Rows of teacher_vectors. A text that cannot be encoded gets none; its pairs get their scoring_error."""
    encoded = []
    for kind in TEXT_COLUMNS:
        rows = texts.filter(pl.col("kind") == kind)
        vectors, tokens_cut, error = teacher.embed(rows["text"].to_list(), kind)
        values = {"vector": pl.Series(vectors).arr.to_list(), "tokens_cut": pl.Series(tokens_cut, dtype=pl.Int32)}
        is_good = pl.Series(error, dtype=pl.String).is_null()
        encoded.append(rows.with_columns(teacher=pl.lit(teacher.name), **values).filter(is_good))
    return pl.concat(encoded).sort("text_id", "kind").select(TeacherVectors.polars_schema().keys())
