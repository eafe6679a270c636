"""Keeps evaluation out of training: the texts of evaluation sets, which no row of the training table may hold.

Texts are compared after `normalise`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.intake.beir import read_beir
from pipelines.texts.comparison import normalise


class EvaluationTexts(NamedTuple):
    """Every query and document of some BEIR folders."""

    data_sets: list[str]  # beir/scifact@0123456789ab
    texts: pl.Series  # normalised, distinct

    @classmethod
    def read(cls, folders: Sequence[str | Path]) -> "EvaluationTexts":
        sets = [read_beir(folder) for folder in folders]
        texts = [text for one in sets for text in (*one.queries.values(), *one.corpus.values())]
        frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
        return cls([one.data_set for one in sets], frame.select(normalise(pl.col("text")).unique())["text"])

    def stand_in(self, rows: pl.DataFrame) -> pl.Series:
        """For each row, whether its query, positive or negative is one of the texts."""
        found = pl.repeat(False, len(rows), dtype=pl.Boolean, eager=True)
        if len(self.texts):
            for column in ("query", "positive", "negative"):
                texts = rows.select(column).unique()
                known = texts.filter(normalise(pl.col(column)).is_in(self.texts.implode()))[column]
                found |= rows[column].is_in(known.implode())
        return found
