"""The systems that an evaluation compares: the student, its untrained self, its teacher, BM25; found and loaded.

models row + folder    -> the student                curated_triplets' commit -> scoring run -> the teacher
recipe + picked layers -> the untrained student
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.find import find
from pipelines.checkpoints.models import row_of_weights, rows_of_model, trained_from
from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import MODEL
from pipelines.curation.held_out import EvaluationSet, input_of
from pipelines.curation.outcomes import curation_of
from pipelines.evaluation.rankings import (
    NO_VECTORS,
    Ranking,
    Rankings,
    bm25_ranking,
    dense_rankings,
    quantised_rankings,
    reranked,
)
from pipelines.search.bm25 import said_of_unmatched
from pipelines.search.encoders import Encoder, KeptVectors, StoredVectors, StudentEncoder
from pipelines.search.quantised import Quantisation
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import ScoringResult
from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student
from pipelines.teachers.bi_encoder import BiEncoderTeacher
from pipelines.teachers.config import TeacherConfig, load_teacher

Role = Literal["student", "int8", "binary", "untrained", "teacher", "bm25"]


class System(NamedTuple):
    """One system and what it ranks."""

    role: Role
    model_id: str  # as `evaluations` names it
    rank: Callable[[EvaluationSet], Rankings]


class NotMeasured(NamedTuple):
    """A system that cannot be loaded, and why."""

    role: Role
    reason: str


class Student(NamedTuple):
    row: dict[str, Any]  # of the models table
    model: SentenceTransformer
    trained_on: TableVersion  # curated_triplets
    others: Sequence[TableVersion] = ()  # of curated_triplets, that other training stages were on


def find_student(tables: Tables, model: str) -> Student:
    """The model's folder and the row of the models table that describes exactly its weights."""
    rows = rows_of_model(tables, model)
    folder = find(tables.path("models", rows["name"][0], MODEL))
    row = row_of_weights(rows, weights_sha256(folder))
    trained_on, *others = (one for one in trained_from(tables, row) if one.name == "curated_triplets")
    return Student(row, SentenceTransformer(str(folder), local_files_only=True), trained_on, others)


def systems(
    student: Student,
    sets: list[EvaluationSet],
    *,
    compare_with: Collection[Role],
    rerank_depth: int,
    batch_size: int,
    quantised: Collection[Quantisation] = (),
) -> Iterator[System | NotMeasured]:
    """The student first, then the same with quantised vectors, then the others, each loaded when it is asked for.

    Memory: one model beside the student's, if the caller lets go of each system before the next; with `quantised` the
    student's vectors of all sets.
    """
    dimensions, model_id = _dimensions(student.model), student.row["model_id"]
    encoder: Encoder = StudentEncoder(student.model, batch_size)
    encoder = KeptVectors(encoder) if quantised else encoder
    yield System("student", model_id, partial(dense_rankings, encoder, dimensions))
    for kept_as in quantised:
        yield System(kept_as, f"{kept_as}:{model_id}", partial(quantised_rankings, encoder, kept_as, dimensions))
    del encoder
    needs_bm25 = {"bm25", "teacher"} & set(compare_with)
    bm25 = bm25_rankings(sets) if needs_bm25 else {}
    loaders: dict[Role, Callable[[], System]] = {
        "untrained": lambda: _untrained(student, batch_size),
        "teacher": lambda: _teacher(student, bm25, rerank_depth),
        "bm25": lambda: System("bm25", "bm25", lambda one: {NO_VECTORS: bm25[one.name]}),
    }
    for role, load in loaders.items():
        if role in compare_with:
            try:
                yield load()
            except UserError as error:
                yield NotMeasured(role, str(error))


def bm25_rankings(sets: list[EvaluationSet]) -> dict[str, Ranking]:
    """By set; tells where many queries find nothing."""
    rankings = {one.name: bm25_ranking(one) for one in sets}
    for one in sets:
        unmatched = [one.queries[query_id] for query_id, ranked in rankings[one.name].items() if not ranked]
        if said := said_of_unmatched(unmatched, len(one.queries)):
            tell(f"evaluate: {one.name}: {said}: BM25 ranks nothing for them")
    return rankings


def _dimensions(model: SentenceTransformer) -> list[int]:
    """The Matryoshka dimensions that the student was trained for, largest first."""
    assert model.transformers_model is not None, "a student is a transformer"
    trained_for = getattr(model.transformers_model.config, "matryoshka_dimensions", [])
    return sorted(trained_for or [model.get_embedding_dimension()], reverse=True)


def _untrained(student: Student, batch_size: int) -> System:
    """The student as it was before its first step: the same layers of the same source."""
    recipe, dimensions = json.loads(student.row["recipe"]), _dimensions(student.model)
    assert student.model.transformers_model is not None, "a student is a transformer"
    assert student.model.max_seq_length is not None, "a student has a longest input"
    layers = student.model.transformers_model.config.distilled_from_layers
    config = DistillConfig(
        source_model=recipe["source_model"],
        layers=tuple(layers),
        num_layers=len(layers),
        width=recipe.get("width"),
        dimensions=tuple(dimensions),
        max_tokens=student.model.max_seq_length,
        query_prompt=student.model.prompts.get("query") or "",
        passage_prompt=student.model.prompts.get("document") or "",
    )
    untrained = initialise_student(config).to(student.model.device)
    rank = partial(dense_rankings, StudentEncoder(untrained, batch_size), dimensions)
    return System("untrained", f"untrained:{student.row['model_id']}", rank)


def _teacher(student: Student, bm25: dict[str, Ranking], rerank_depth: int) -> System:
    """The teacher whose scores the student was trained on, as its scoring run configured it."""
    name = curation_of(student.trained_on).teacher
    scored = input_of(student.trained_on, "scored_triplets")
    runs = [version.commit for version, result in scored.results(ScoringResult) if result.teacher == name]
    teacher = load_teacher(TeacherConfig.part_of(runs[0].config))
    if teacher.name != name:
        raise UserError(f"the model there is now {teacher.name}, {student.trained_on} was made with {name}")
    if not isinstance(teacher, BiEncoderTeacher):
        return System("teacher", name, lambda one: {NO_VECTORS: reranked(teacher, one, bm25[one.name], rerank_depth)})
    encoder = StoredVectors(teacher, student.trained_on.tables.newest("teacher_vectors"))
    dimensions = [teacher.dimension, *(d for d in _dimensions(student.model) if d < teacher.dimension)]
    return System("teacher", name, partial(dense_rankings, encoder, dimensions))
