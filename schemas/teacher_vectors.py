"""teacher_vectors: one row per text, bi-encoder teacher and kind. Key: text_id, teacher, kind.

Written by pipelines/score.py --vectors (append); read by pipelines/distill.py for objectives that regress to vectors.
A text of a triplet is not repeated here: its row is its triplet's. A plain text (--texts) stands in its row.
A text has one vector as a query and another as a passage where the teacher's prompts differ.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ID_PATTERN, Table, Vector


class TeacherVectors(Table):
    text_id: str = pa.Field(str_matches=ID_PATTERN)
    teacher: str = pa.Field(str_matches=r"^.+@[0-9a-f]{12}$")
    kind: str = pa.Field(isin=["query", "passage"])
    vector: Vector  # unit length
    tokens_cut: pl.Int32 = pa.Field(ge=0)  # tokens of the text beyond the teacher's maximum
    text: str = pa.Field(nullable=True, str_length={"min_value": 1})  # a plain text; null: it came with a triplet

    class Config:
        name = "teacher_vectors"
        unique = ["text_id", "teacher", "kind"]
        metadata = {"statistics": ["text_id", "teacher", "kind"]}

    @pa.check("vector")
    @classmethod
    def has_unit_length(cls, data: pa.PolarsData) -> pl.LazyFrame:
        squares = pl.col(data.key).list.eval(pl.element().pow(2)).list.sum()
        return data.lazyframe.select(squares.is_between(0.99, 1.01))
