"""Keeps evaluation out of training: the texts of evaluation sets, which no row of the training table may hold.

Texts are compared after `normalise`, and where it is asked, what is nearly the same counts as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from pipelines.intake.beir import read_beir
from pipelines.texts.comparison import normalise, normalised
from pipelines.texts.near_duplicates import NearTexts


@dataclass(frozen=True)
class EvaluationTexts:
    """Every query and document of some BEIR folders."""

    data_sets: list[str]  # beir/scifact@0123456789ab
    texts: pl.Series  # normalised, distinct
    near_duplicates: float | None = None  # the threshold of `NearTexts`; None: only the same

    @classmethod
    def read(cls, folders: Sequence[str | Path], near_duplicates: float | None = None) -> "EvaluationTexts":
        sets = [read_beir(folder) for folder in folders]
        texts = [text for one in sets for text in (*one.queries.values(), *one.corpus.values())]
        frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
        distinct = frame.select(normalise(pl.col("text")).unique(maintain_order=True))["text"]
        return cls([one.data_set for one in sets], distinct, near_duplicates)

    def stand_in(self, rows: pl.DataFrame) -> pl.Series:
        """For each row, whether its query, positive or negative is one of the texts."""
        found = pl.repeat(False, len(rows), dtype=pl.Boolean, eager=True)
        if len(self.texts):
            for column in ("query", "positive", "negative"):
                texts = rows[column].unique()
                found |= rows[column].is_in(texts.filter(self.hold(texts)).implode())
        return found

    def hold(self, texts: pl.Series) -> pl.Series:
        """For each text, whether it is one of them."""
        if not len(self.texts):
            return pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
        found = normalised(texts).is_in(self.texts.implode())
        if self.near_duplicates is None:
            return found
        near = self._near_texts.hold(texts.filter(~found).to_list())
        return found.scatter((~found).arg_true(), pl.Series(near, dtype=pl.Boolean))

    @cached_property
    def _near_texts(self) -> NearTexts:
        assert self.near_duplicates is not None, "asked for only then"
        return NearTexts(self.texts.to_list(), self.near_duplicates)
