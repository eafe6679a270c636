"""Which teachers' vectors a training regresses to, whether they serve, and their rows in the order of its texts.

teacher_vectors@v, curated@v  --check_vectors-->  refused before Ray starts      --write_vectors-->  the token cache

Vectors of several teachers stand side by side.
"""

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import QueryRange, TableVersion
from pipelines.students.config import DistillConfig
from pipelines.students.data.rows import ScoredPassages, training_rows
from pipelines.students.data.token_cache import Array

VECTORS_PER_READ = 50_000
ROLES = {"query": "query", "positive": "passage", "negative": "passage"}  # of a triplet's texts -> their kinds
KIND = pl.Enum(["query", "passage"])
TEXT = ["kind", "text_id"]  # what tells texts apart
SCORE = "`python -m jobs score --vectors`"


def raw_id(column: str) -> pl.Expr:
    """An id's 32 hex digits as one number: 16 bytes."""
    return pl.col(column).str.to_integer(base=16, dtype=pl.UInt128)


def vectors_teachers(vectors: TableVersion, curated: TableVersion, config: DistillConfig) -> tuple[str, ...]:
    """Whose vectors: the config's teachers, else the curation's, else the only one. Raises UserError when none is."""
    of_vectors = vectors.scan().select(pl.col("teacher").unique()).collect(engine="streaming")
    there, named = of_vectors["teacher"].sort().to_list(), config.named_vectors_teachers()
    if named and set(named) <= set(there):
        return named
    by_curation = curated.scan().select("teacher").head(1).collect()["teacher"].to_list()
    chosen = [teacher for teacher in by_curation if teacher in there] or there
    if named or len(chosen) != 1:
        judge = "" if named else f", none of them by the curation's teacher {' '.join(by_curation)}"
        asked = f" (distill.vectors_teacher is {_spelt(config)})" if named else ""
        raise UserError(
            f"{vectors} has vectors by {', '.join(there) or 'nobody'}{judge}{asked}; set distill.vectors_teacher to "
            f"one of them, or several as a list, or run: {SCORE}"
        )
    return tuple(chosen)


def _spelt(config: DistillConfig) -> str:
    named = config.vectors_teacher
    return repr(named) if isinstance(named, str) else json.dumps(named)


def texts_of_triplets(rows: pl.LazyFrame) -> pl.LazyFrame:
    """kind and text_id of each text of some triplets."""
    return pl.concat(
        rows.select(kind=pl.lit(kind, KIND), text_id=raw_id(f"{role}_id")) for role, kind in ROLES.items()
    ).unique()


def check_teacher(config: DistillConfig, teacher: str, found: int | None, width: int | None) -> None:
    """Refuse a teacher that is none of the config's, or whose vectors, `found` wide, the student cannot regress to.

    Args:
        found: None where it is not known; of several teachers it is not.
        width: the student's.
    """
    named = config.named_vectors_teachers()
    if named and teacher not in named:
        raise UserError(f"distill.vectors_teacher is {_spelt(config)}, the vectors are by {teacher}")
    check_width(config, found if len(named) < 2 else None, width)


def check_width(config: DistillConfig, found: int | None, width: int | None) -> None:
    """Refuse vectors, `found` wide where that is known, that the student of `width` cannot regress to."""
    turns = config.vectors > 0 and config.vectors_axes == "principal"
    if turns and config.head != "dense":
        raise UserError(
            f"distill.vectors_axes is principal and distill.head {config.head}: only a dense head can turn the student "
            "to these axes; set distill.head=dense, or distill.vectors_axes=teacher"
        )
    if found is None or width is None or not config.vectors or config.vectors_projection:
        return
    if found < width if turns else found != width:
        raise UserError(
            f"the teacher's vectors are {found} wide, the student's {width}: the term distill.vectors needs the same "
            "width, or a projection from one to the other. Set distill.vectors_projection=true (or, where the teacher "
            "is wider, distill.vectors_axes=principal with distill.head=dense), or distill.vectors=0, or take a "
            "teacher or a distill.source_model of the other's width"
        )


def check_needed(vectors: TableVersion | None, curated: TableVersion, config: DistillConfig) -> None:
    """Refuse to train without vectors what learns from them."""
    for term, weight in config.weights_on_teacher_vectors().items():
        if vectors is None:
            raise UserError(
                f"distill.{term} is {weight}, but there are no teacher vectors under {curated.tables.uri}; run "
                f"`python -m jobs score --vectors` with this --recipe first, or add --set distill.{term}=0"
            )


def check_vectors(vectors: TableVersion, curated: TableVersion, config: DistillConfig, width: int | None) -> int:
    """Refuse vectors that the student's width does not suit, or that some training text lacks; gives their width."""
    teachers = vectors_teachers(vectors, curated, config)
    found = sum(_widths(vectors, teachers))
    check_width(config, found, width)
    if config.data == "texts":
        return found  # those that have a vector are taken, and only those
    texts = texts_of_triplets(training_rows(curated, config))
    if config.candidates_from == "scored":
        texts = pl.concat([texts, _scored(curated, config)]).unique()
    num_texts = texts.select(pl.len()).collect(engine="streaming").item()
    for teacher in teachers:
        lacking = texts.join(_texts_by(teacher, vectors), on=TEXT, how="anti").select(pl.len())
        _refuse_gaps(vectors, teacher, lacking.collect(engine="streaming").item(), num_texts)
    return found


def _scored(curated: TableVersion, config: DistillConfig) -> pl.LazyFrame:
    """kind and text_id of all candidates of the training's queries."""
    queries = training_rows(curated, config).select("query_id").unique()
    passages = ScoredPassages(curated).passages(queries, QueryRange("", "g"))
    return passages.select(kind=pl.lit("passage", KIND), text_id=raw_id("passage_id"))


def write_vectors(path: Path, vectors: TableVersion, teachers: Sequence[str], texts: pl.DataFrame) -> int:
    """The teachers' vectors in the order of the texts; returns their width. Raises UserError when a text has none."""
    widths = _widths(vectors, teachers)
    aligned: Array = np.memmap(path, np.float32, "w+", shape=(len(texts), sum(widths)))
    ends = np.cumsum(widths)
    for teacher, start, end in zip(teachers, ends - widths, ends, strict=True):
        _write_vectors(aligned[:, start:end], vectors, teacher, texts)
    return int(ends[-1])


def _write_vectors(aligned: Array, vectors: TableVersion, teacher: str, texts: pl.DataFrame) -> None:
    rows = _by(teacher, vectors).select(pl.col("kind").cast(KIND), raw_id("text_id"), "vector")
    is_missing = np.ones(len(texts), dtype=bool)
    for frame in rows.collect_batches(chunk_size=VECTORS_PER_READ, maintain_order=False):
        ours = texts.lazy().join(frame.lazy(), on=TEXT, how="inner").collect(engine="streaming")
        found = ours["vector"].list.to_array(aligned.shape[1]).to_numpy()
        _refuse_not_finite(vectors, teacher, ours.filter(~np.isfinite(found).all(axis=1)))
        aligned[ours["number"]] = found
        is_missing[ours["number"]] = False
    _refuse_gaps(vectors, teacher, int(is_missing.sum()), len(texts))


def texts_by_all(teachers: Sequence[str], vectors: TableVersion) -> pl.LazyFrame:
    """kind and text_id of the texts that have a vector by each of the teachers."""
    of_each = [_texts_by(teacher, vectors) for teacher in teachers]
    return reduce(lambda found, other: found.join(other, on=TEXT, how="semi"), of_each)


def _refuse_not_finite(vectors: TableVersion, teacher: str, broken: pl.DataFrame) -> None:
    if len(broken):
        text_id = f"{broken['text_id'][0]:032x}"
        raise UserError(
            f"{vectors} has {len(broken):,} vectors by {teacher} that are not finite, expected numbers; one is of the "
            f'text {text_id}: `python -m jobs query --at {vectors} "SELECT * FROM teacher_vectors WHERE text_id = '
            f"'{text_id}'\"`. Delete them there, then run: {SCORE}"
        )


def _by(teacher: str, vectors: TableVersion) -> pl.LazyFrame:
    return vectors.scan().filter(pl.col("teacher") == pl.lit(teacher))


def _texts_by(teacher: str, vectors: TableVersion) -> pl.LazyFrame:
    return _by(teacher, vectors).select(pl.col("kind").cast(KIND), raw_id("text_id"))


def _widths(vectors: TableVersion, teachers: Sequence[str]) -> list[int]:
    return [
        int(_by(teacher, vectors).select(pl.col("vector").list.len()).head(1).collect().item()) for teacher in teachers
    ]


def _refuse_gaps(vectors: TableVersion, teacher: str, num_lacking: int, num_texts: int) -> None:
    if num_lacking:
        raise UserError(
            f"{vectors} has no vector by {teacher} for {num_lacking:,} of the {num_texts:,} training texts, expected "
            f"one for each; run: {SCORE}"
        )
