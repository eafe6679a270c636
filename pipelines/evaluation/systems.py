"""The systems that an evaluation compares: the student, its untrained self, its teacher, BM25; found and loaded.

models row + folder    -> the student                curated_triplets' commit -> scoring run -> the teacher
recipe + picked layers -> the untrained student
"""

import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.run_folder import MODEL
from pipelines.checkpoints.trained import row_of_weights, rows_of_model
from pipelines.checkpoints.weights import weights_sha256
from pipelines.curation.versions import curation_of
from pipelines.evaluation.evaluation_sets import EvaluationSet, input_of
from pipelines.evaluation.rankings import (
    NO_VECTORS,
    Encoder,
    Ranking,
    Rankings,
    StudentEncoder,
    bm25_ranking,
    dense_rankings,
    reranked,
)
from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import ScoringResult
from pipelines.students.initialise import initialise_student
from pipelines.teachers import resolve
from pipelines.teachers.bi_encoder import BiEncoderTeacher
from pipelines.teachers.config import TeacherConfig, load_teacher
from pipelines.teachers.cross_encoder import CrossEncoderTeacher
from pipelines.texts.ids import text_ids

Role = Literal["student", "untrained", "teacher", "bm25"]


class System(NamedTuple):
    """One system and what it ranks."""

    role: Role
    model_id: str  # as `evaluations` names it
    rank: Callable[[EvaluationSet], Rankings]


class Student(NamedTuple):
    row: dict[str, Any]  # of the models table
    model: SentenceTransformer
    trained_on: TableVersion  # curated_triplets


def find_student(tables: Tables, model: str) -> Student:
    """The model's folder and the row of the models table that describes exactly its weights."""
    rows = rows_of_model(tables, model)
    folder = resolve(tables.path("models", rows["name"][0], MODEL))
    row = row_of_weights(rows, weights_sha256(Path(folder)))
    loaded = SentenceTransformer(folder, local_files_only=True)
    return Student(row, loaded, tables.parse(row["curated_version"]))


def systems(
    student: Student,
    sets: Sequence[EvaluationSet],
    not_measured: dict[str, str],
    *,
    compare_with: Collection[Role],
    rerank_depth: int,
    batch_size: int,
) -> Iterator[System]:
    """The student first, then the others, one model in memory beside it at a time.

    What cannot be loaded is told on stderr and noted in `not_measured`, with the reason.
    """
    model_id, dimensions = student.row["model_id"], _dimensions(student.model)
    yield _dense("student", model_id, StudentEncoder(student.model, batch_size), dimensions)
    if "untrained" in compare_with:
        try:
            untrained = StudentEncoder(_untrained(student), batch_size)
            yield _dense("untrained", f"untrained:{model_id}", untrained, dimensions)
        except UserError as error:
            _leave_out("untrained", error, not_measured)
    needs_bm25 = {"bm25", "teacher"} & set(compare_with)
    bm25 = {evaluation_set.name: bm25_ranking(evaluation_set) for evaluation_set in sets} if needs_bm25 else {}
    if "teacher" in compare_with:
        try:
            yield _teacher(student, bm25, rerank_depth)
        except UserError as error:
            _leave_out("teacher", error, not_measured)
    if "bm25" in compare_with:
        yield System("bm25", "bm25", lambda evaluation_set: {NO_VECTORS: bm25[evaluation_set.name]})


def _dense(role: Role, model_id: str, encoder: Encoder, dimensions: Sequence[int]) -> System:
    return System(role, model_id, lambda evaluation_set: dense_rankings(encoder, evaluation_set, dimensions))


def _dimensions(model: SentenceTransformer) -> list[int]:
    """The Matryoshka dimensions that the student was trained for, largest first."""
    assert model.transformers_model is not None, "a student is a transformer"
    trained_for = getattr(model.transformers_model.config, "matryoshka_dimensions", [])
    return sorted(trained_for or [model.get_embedding_dimension()], reverse=True)


def _untrained(student: Student) -> SentenceTransformer:
    """The student as it was before its first step: the same layers of the same source."""
    recipe = json.loads(student.row["recipe"])
    assert student.model.transformers_model is not None, "a student is a transformer"
    assert student.model.max_seq_length is not None, "a student has a longest input"
    layers = student.model.transformers_model.config.distilled_from_layers
    return initialise_student(
        recipe["source_model"],
        layers,
        len(layers),
        dimensions=_dimensions(student.model),
        max_tokens=student.model.max_seq_length,
        query_prompt=student.model.prompts.get("query") or "",
        passage_prompt=student.model.prompts.get("document") or "",
    ).to(student.model.device)


def _teacher(student: Student, bm25: dict[str, Ranking], rerank_depth: int) -> System:
    """The teacher whose scores the student was trained on, as its scoring run configured it."""
    name = curation_of(student.trained_on).teacher
    scored = input_of(student.trained_on, "scored_triplets")
    runs = [version.commit for version, result in scored.results(ScoringResult) if result.teacher == name]
    teacher = load_teacher(TeacherConfig.part_of(runs[0].config))
    if teacher.name != name:
        raise UserError(f"the model there is now {teacher.name}, {student.trained_on} was made with {name}")
    if isinstance(teacher, CrossEncoderTeacher):
        return System(
            "teacher",
            name,
            lambda one: {NO_VECTORS: reranked(teacher, one, bm25[one.name], rerank_depth)},
        )
    width = teacher.dimension
    encoder = StoredVectors(teacher, student.trained_on.tables.latest("teacher_vectors"))
    return _dense("teacher", name, encoder, [width, *(d for d in _dimensions(student.model) if d < width)])


class StoredVectors:
    """A bi-encoder teacher that encodes only the texts whose vectors no scoring run has stored."""

    def __init__(self, teacher: BiEncoderTeacher, vectors: TableVersion | None) -> None:
        self.teacher, self.vectors = teacher, vectors

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]:
        if self.vectors is None:
            return self.teacher.encode(texts, kind)
        wanted = pl.DataFrame({"text_id": text_ids(texts)}).with_row_index("row")
        of_teacher = (pl.col("teacher") == pl.lit(self.teacher.name)) & (pl.col("kind") == pl.lit(kind))
        stored = self.vectors.scan().filter(of_teacher & pl.col("text_id").is_in(wanted["text_id"].implode()))
        found = wanted.join(stored.select("text_id", "vector").collect(), on="text_id").sort("row")
        encoded = np.empty((len(texts), self.teacher.dimension), np.float32)
        encoded[found["row"].to_numpy()] = found["vector"].explode().to_numpy().reshape(len(found), -1)
        missing = wanted.join(found, on="row", how="anti")["row"].to_list()
        if missing:
            encoded[missing] = self.teacher.encode([texts[row] for row in missing], kind)
        return encoded


def _leave_out(role: str, error: UserError, not_measured: dict[str, str]) -> None:
    not_measured[role] = str(error)
    print(f"evaluate: {role} is not measured: {error}", file=sys.stderr, flush=True)
