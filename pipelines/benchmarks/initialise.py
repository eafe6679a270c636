"""Layer selections and a narrower student side by side: before training, and after equal steps.

    curated_triplets@v (+ teacher_vectors@v), [distill]  --compare-->  one row per evaluation set and selection

Every selection is trained by the loop of `distill` on one process without Ray: the same token cache, the same batches
in the same order, the same seed, terms and learning rates. Measured are nDCG@10 at full width on queries that no
training saw (the version's dev split, its kept triplets judging; or BEIR folders), and the mean cosine of the texts'
embeddings to the teacher's vectors of them, where these are stored and as wide.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from pipelines.benchmarks.trainings import train_ours
from pipelines.curation.held_out import EvaluationSet, held_out_set
from pipelines.evaluation.evaluation_sets import beir_set
from pipelines.evaluation.metrics import per_query
from pipelines.evaluation.rankings import dense_rankings
from pipelines.search.encoders import Encoder, StudentEncoder
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.students.config import DistillConfig, LayerPick
from pipelines.students.data.teacher_vectors import check_needed, check_vectors, vectors_teachers
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from pipelines.students.source import Source, with_prompts
from pipelines.texts.ids import text_id

PICKS: tuple[LayerPick, ...] = ("uniform", "uniform_with_last", "first", "last")
BATCH_SIZE = 32

Kind = Literal["query", "passage"]
Vectors = dict[tuple[str, str], NDArray[np.float32]]  # (kind, text) -> the teacher's vector


class Selection(NamedTuple):
    """One student to be compared."""

    name: str
    config: DistillConfig
    layers: list[int]


class Figures(NamedTuple):
    """What one student does on one evaluation set."""

    ndcg: float
    teacher_cosine: float | None


def selections(
    config: DistillConfig, layers: Sequence[LayerPick | tuple[int, ...]] = (), width: int | None = None
) -> list[Selection]:
    """The students to be compared: a line for each pick, and one that is narrower.

    Args:
        layers: what to pick; nothing is every rule that the source allows, and the config's own pick.
        width: of the narrower one, which has the config's own pick; None is half the source's, if its heads allow.
    Raises:
        UserError: what was asked for by name cannot be made of the source.
    """
    source = Source.find(config)
    found: dict[tuple[int, ...], Selection] = {}
    for pick in layers or dict.fromkeys((*PICKS, config.layers)):
        wanted = config.model_copy(update={"layers": pick, "width": None})
        try:
            picked = source.pick(wanted)
        except UserError as error:
            if layers:
                raise
            tell(f"bench: {pick} is left out: {error}")
            continue
        if tuple(picked) in found:
            tell(f"bench: {pick} is left out: it picks the same layers as {found[tuple(picked)].name}")
        else:
            name = pick if isinstance(pick, str) else "given"
            found[tuple(picked)] = Selection(name, wanted, picked)
    return [*found.values(), *_narrower(source, config, width)]


def _narrower(source: Source, config: DistillConfig, width: int | None) -> list[Selection]:
    named = config.width if width is None else width
    wanted = (source.width or 0) // 2 if named is None else named
    dimensions = tuple(dict.fromkeys(min(dimension, wanted) for dimension in config.dimensions))
    narrow = config.model_copy(update={"width": wanted, "dimensions": dimensions})
    name = config.layers if isinstance(config.layers, str) else "given"
    try:
        return [Selection(f"{name}, narrower", narrow, source.pick(narrow))]
    except UserError as error:
        if named is not None:
            raise
        tell(f"bench: a narrower student is left out: {error}; --width names one")
        return []


def compare(
    curated: TableVersion,
    chosen: Sequence[Selection],
    *,
    steps: int,
    vectors: TableVersion | None = None,
    beir: Sequence[str] = (),
    dev_queries: int = 300,
    dev_passages: int = 1_000,
) -> pl.DataFrame:
    """One row per evaluation set and selection, in the order given.

    Args:
        steps: of each training; the learning rate decays towards that end.
        vectors: for the terms that learn from them, and for the cosines.
        beir: BEIR folders to evaluate on; none is the version's dev split.
    Returns:
        data_set, selection, layers, width, parameters, ndcg_before, ndcg_after (nDCG@10), teacher_cosine_before,
        teacher_cosine_after (null without vectors as wide), steps.
    Raises:
        UserError: nothing to train or to evaluate on, or no selection whose terms the vectors serve; one that they do
            not serve, being narrower, is left out, and it is said.
    """
    sets = [beir_set(folder) for folder in beir] or [dev_set(curated, dev_queries, dev_passages)]
    chosen = _trainable(curated, chosen, vectors)
    teacher = _teacher_vectors(curated, chosen[0].config, vectors, sets)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for one in chosen:
            config = with_prompts(one.config).model_copy(update={"max_steps": steps})
            needed = vectors if config.weights_on_teacher_vectors() else None
            cache_of = partial(_cache, curated, config, needed, Path(scratch))
            rows += _compared(one._replace(config=config), sets, teacher, cache_of)
    order = {one.name: place for place, one in enumerate(sets)}
    return pl.DataFrame(rows).sort(pl.col("data_set").replace_strict(order, return_dtype=pl.Int64), maintain_order=True)


def dev_set(curated: TableVersion, max_queries: int, max_passages: int) -> EvaluationSet:
    """The dev split's queries over a sample of passages, their negatives among them."""
    found = held_out_set(curated, max_queries, max_passages, split="dev", with_negatives=True)
    if found is None:
        raise UserError(
            f"{curated} has no query in its dev split: give --beir DIR, or curate with --set curate.dev_share=0.02"
        )
    return found


def _trainable(curated: TableVersion, chosen: Sequence[Selection], vectors: TableVersion | None) -> list[Selection]:
    """The selections whose terms have what they need; raises UserError where none has."""
    found: list[Selection] = []
    refused: list[UserError] = []
    for one in chosen:
        try:
            _check(curated, one, vectors)
            found.append(one)
        except UserError as error:
            refused.append(error)
            tell(f"bench: {one.name} is left out: {error}")
    if not found:
        raise refused[0]
    return found


def _check(curated: TableVersion, one: Selection, vectors: TableVersion | None) -> None:
    check_needed(vectors, curated, one.config)
    if vectors is not None and one.config.weights_on_teacher_vectors():
        check_vectors(vectors.usable(), curated, one.config, Source.find(one.config).student_width(one.config))


def _cache(
    curated: TableVersion,
    config: DistillConfig,
    vectors: TableVersion | None,
    scratch: Path,
    student: SentenceTransformer,
) -> TokenCache:
    """Built for the first selection, opened for the others: their source, and so their tokenizer, is the same."""
    return build_token_cache(scratch / "cache", curated, student.tokenizer, config, vectors)


def _compared(
    one: Selection,
    sets: Sequence[EvaluationSet],
    teacher: Vectors,
    cache_of: Callable[[SentenceTransformer], TokenCache],
) -> list[dict[str, object]]:
    """The rows of one selection: measured, trained, measured again."""
    student = initialise_student(one.config)
    tell(f"bench: {one.name}: layers {one.layers}, {student.get_embedding_dimension()} wide")
    before = [_figures(student, on, teacher) for on in sets]
    device = torch.device("cuda" if torch.cuda.is_available() and one.config.use_gpu else "cpu")
    trained_steps = train_ours(student, cache_of(student), one.config, device).steps
    after = [_figures(student, on, teacher) for on in sets]
    return [
        {
            "data_set": on.name,
            "selection": one.name,
            "layers": " ".join(map(str, one.layers)),
            "width": student.get_embedding_dimension(),
            "parameters": sum(parameter.numel() for parameter in student.parameters()),
            "ndcg_before": first.ndcg,
            "ndcg_after": last.ndcg,
            "teacher_cosine_before": first.teacher_cosine,
            "teacher_cosine_after": last.teacher_cosine,
            "steps": trained_steps,
        }
        for on, first, last in zip(sets, before, after, strict=True)
    ]


class _Kept:
    """An encoder that keeps what it gave, by text."""

    def __init__(self, student: SentenceTransformer) -> None:
        self._encoder, self.vectors = StudentEncoder(student, BATCH_SIZE), Vectors()

    def encode(self, texts: list[str], kind: Kind, /) -> NDArray[np.float32]:
        encoded = self._encoder.encode(texts, kind)
        self.vectors |= {(kind, text): vector for text, vector in zip(texts, encoded, strict=True)}
        return encoded


def _figures(student: SentenceTransformer, on: EvaluationSet, teacher: Vectors) -> Figures:
    encoder = _Kept(student.eval())
    ndcg = ndcg_of(encoder, student, on)
    pairs = [(vector, teacher[text]) for text, vector in encoder.vectors.items() if text in teacher]
    cosines = [float(ours @ theirs / np.linalg.norm(theirs)) for ours, theirs in pairs if len(ours) == len(theirs)]
    return Figures(ndcg, float(np.mean(cosines)) if cosines else None)


def ndcg_of(encoder: Encoder, student: SentenceTransformer, on: EvaluationSet) -> float:
    """nDCG@10 of a student at its full width, its texts encoded by `encoder`."""
    width = student.get_embedding_dimension()
    assert width is not None, "a student has a width"
    ranking = dense_rankings(encoder, [width], on)[width]
    ndcg = per_query(on.qrels, ranking).filter(pl.col("metric") == "nDCG@10")["value"].mean()
    assert isinstance(ndcg, float), "a set has a query"
    return ndcg


def _teacher_vectors(
    curated: TableVersion, config: DistillConfig, vectors: TableVersion | None, sets: Sequence[EvaluationSet]
) -> Vectors:
    """The teacher's vectors of the sets' texts, as far as they are stored; none where it is not clear whose to take."""
    if vectors is None:
        return {}
    try:
        teacher, *others = vectors_teachers(vectors, curated, config)
    except UserError as error:
        tell(f"bench: no cosines to a teacher's vectors: {error}")
        return {}
    if others:
        tell("bench: no cosines to a teacher's vectors: there are several teachers")
        return {}
    texts = {
        (kind, text_id(text)): text
        for one in sets
        for kind, of_kind in (("query", one.queries), ("passage", one.corpus))
        for text in of_kind.values()
    }
    ids = pl.Series([found for _, found in texts], dtype=pl.String)
    rows = vectors.scan().filter((pl.col("teacher") == pl.lit(teacher)) & pl.col("text_id").is_in(ids.implode()))
    stored = rows.select("kind", "text_id", "vector").collect(engine="streaming")
    return {
        (kind, texts[kind, found]): np.asarray(vector, np.float32)
        for kind, found, vector in stored.iter_rows()
        if (kind, found) in texts
    }
