"""The texts of a training without triplets: all that have a vector, but those that are kept for judging students.

    teacher_vectors@v, curated@v  --texts_with_vectors-->  kind, text_id, text   (tokenise.py)

A plain text stands in teacher_vectors itself (`score --vectors --texts`); a triplet's in the curated version's rows.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import polars as pl

from pipelines.curation.evaluation_texts import EvaluationTexts
from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.storage.ranges import bucket_ranges, count_buckets
from pipelines.students.config import DistillConfig
from pipelines.students.data.rows import IN_TRAINING, training_rows
from pipelines.students.data.teacher_vectors import (
    KIND,
    ROLES,
    TEXT,
    raw_id,
    texts_by_all,
    texts_of_triplets,
    vectors_teachers,
)
from pipelines.texts.comparison import normalised

TEXTS_PER_READ = 200_000


class KeptOut(NamedTuple):
    """What no training may read: dev and test queries, and the texts of the curation's evaluation sets."""

    queries: pl.Series  # normalised, distinct
    evaluated: EvaluationTexts

    @classmethod
    def of(cls, curated: TableVersion) -> Self:
        """Raises UserError when an evaluation set that the curation read is not there any more."""
        queries = curated.scan().filter(~IN_TRAINING).select("query").unique().collect(engine="streaming")
        config = curated.origin().commit.config
        folders = config.get("evaluation_sets", ())
        try:
            evaluated = EvaluationTexts.read(folders, config.get("evaluation_near_duplicates"))
        except UserError as error:
            raise UserError(
                f"{curated} was curated against the evaluation sets {', '.join(folders)}, whose texts data = 'texts' "
                f"must leave out: {error}"
            ) from error
        return cls(normalised(queries["query"]).unique(), evaluated)

    def hold(self, texts: pl.Series) -> pl.Series:
        """For each text, whether it is one of them, whatever its case, punctuation and spacing."""
        return normalised(texts).is_in(self.queries.implode()) | self.evaluated.hold(texts)


def check_texts(curated: TableVersion, vectors: TableVersion, config: DistillConfig) -> int:
    """Refuse where no text has a vector, or what must be kept out is not known; counts those that have one."""
    teachers = vectors_teachers(vectors, curated, config)
    KeptOut.of(curated)
    num_plain = _plain(vectors, teachers).select(pl.len()).collect(engine="streaming").item()
    of_triplets = texts_of_triplets(training_rows(curated, config)).join(
        texts_by_all(teachers, vectors), on=TEXT, how="semi"
    )
    num_texts = int(num_plain + of_triplets.select(pl.len()).collect(engine="streaming").item())
    if not num_texts:
        raise UserError(
            f"distill.data is 'texts', but {vectors} has neither plain texts by {' and '.join(teachers)} nor vectors "
            f"of the texts to train on of {curated}; run: `python -m jobs score --vectors`, of more "
            "texts by its --texts PATH"
        )
    return num_texts


def texts_with_vectors(
    curated: TableVersion, vectors: TableVersion, teachers: Sequence[str], config: DistillConfig
) -> Iterator[pl.DataFrame]:
    """kind, text_id, text and `is_kept_out`: first of the training rows, as these name them, then the plain ones.

    A text may come twice. Ranges are read in ascending order, so nothing depends on how files are cut.
    """
    kept_out = KeptOut.of(curated)
    named = texts_by_all(teachers, vectors).collect(engine="streaming")
    rows = training_rows(curated, config)
    for query_range in curated.query_ranges(TEXTS_PER_READ):
        of_range = rows.filter(query_range.contains("query_id")).collect().sort("query_id", "triplet_id")
        mentions = of_range.select(
            kind=pl.lit(list(ROLES.values()), dtype=pl.List(KIND)),
            text_id=pl.concat_list([raw_id(f"{role}_id") for role in ROLES]),
            text=pl.concat_list(list(ROLES)),
        ).explode("kind", "text_id", "text")
        texts = mentions.unique(TEXT, keep="first", maintain_order=True)
        yield _marked(texts.join(named, on=TEXT, how="semi", maintain_order="left"), kept_out)
    plain = _plain(vectors, teachers)
    for text_range in bucket_ranges(count_buckets(plain, "text_id"), TEXTS_PER_READ):
        texts = plain.filter(text_range.contains("text_id")).select("kind", "text_id", "text").collect()
        ordered = texts.sort("text_id", "kind").with_columns(pl.col("kind").cast(KIND), raw_id("text_id"))
        yield _marked(ordered, kept_out)


def _plain(vectors: TableVersion, teachers: Sequence[str]) -> pl.LazyFrame:
    """The rows of the texts that came by themselves, not with a triplet."""
    first, *others = teachers
    plain = vectors.scan().filter(pl.col("text").is_not_null(), teacher=pl.lit(first))
    if not others:
        return plain
    keyed = plain.with_columns(pl.col("kind").cast(KIND), named_id=raw_id("text_id"))
    return keyed.join(texts_by_all(others, vectors), left_on=["kind", "named_id"], right_on=TEXT, how="semi").drop(
        "named_id"
    )


def _marked(texts: pl.DataFrame, kept_out: KeptOut) -> pl.DataFrame:
    return texts.with_columns(is_kept_out=kept_out.hold(texts["text"]))
