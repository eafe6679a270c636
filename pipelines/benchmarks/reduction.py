"""`bench reduce`: sentence-transformers' own layer reduction beside our recipe, in equal minutes, on the same texts.

    curated_triplets@v, teacher_vectors@v, [distill]  --compare-->  nDCG@10 of the field's best and of ours, each set

The field's is the library's example: keep some layers, `MSELoss` towards the teacher's vectors, its trainer. Each layer
pick and learning rate trains for `search_minutes`; the best on the dev split then for `minutes`, in the precision that
is faster here, with batches of texts of similar length. Ours trains for as long by the loop of `distill`, without Ray.
How many steps fit into a minute is timed at the start, in turns, of which the fastest counts: let nothing else run
until the first row is printed. What runs later beside it changes nothing but the seconds that the rows tell, how long
each training took. Nothing is chosen by the sets that are reported.

Source: https://sbert.net/examples/sentence_transformer/training/distillation/README.html
"""

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MSELoss
from transformers import TrainerCallback

from pipelines.benchmarks.initialise import dev_set, ndcg_of
from pipelines.benchmarks.trainings import Timed, by_length, train_ours, train_theirs
from pipelines.curation.held_out import EvaluationSet
from pipelines.evaluation.evaluation_sets import beir_set
from pipelines.search.encoders import StudentEncoder
from pipelines.stage.errors import UserError
from pipelines.stage.precision import fastest_on_cpu
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.students.config import DistillConfig, LayerPick
from pipelines.students.data.teacher_vectors import check_vectors, vectors_teachers, write_vectors
from pipelines.students.data.texts import texts_with_vectors
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from pipelines.students.source import Source, with_prompts
from pipelines.students.training.loop import reproducible

PICKS: tuple[LayerPick, ...] = ("uniform", "uniform_with_last", "first")
LEARNING_RATES = (5e-5, 1e-4, 3e-4)  # the example's is 1e-4
BATCH_SIZE = 64  # the example's
CALIBRATION_STEPS = 16  # of ours, whose seconds are counted by token
CALIBRATION_TURNS = 3
FIRST_STEPS = 4  # are slower, and not timed
SORTED_TOGETHER = 50  # so many of the field's batches come longest first, then as many again


class Texts(NamedTuple):
    """What the field's trainer reads."""

    texts: list[str]
    vectors: np.ndarray[Any, np.dtype[np.float32]]  # (texts, D)


class Attempt(NamedTuple):
    """One training: of the field's, or ours."""

    layers: LayerPick | tuple[int, ...]
    learning_rate: float


def compare(
    curated: TableVersion,
    vectors: TableVersion,
    config: DistillConfig,
    *,
    minutes: float,
    search_minutes: float,
    beir: Sequence[str],
    picks: Sequence[LayerPick] = PICKS,
    learning_rates: Sequence[float] = LEARNING_RATES,
    dev_queries: int = 300,
    dev_passages: int = 3_000,
) -> Iterator[dict[str, Any]]:
    """A row for each of the field's attempts (on dev), then for its best and for ours on every set, dev included.

    Args:
        config: ours, with `data = "texts"`; the field's has its source, number of layers, lengths and threads.
        beir: BEIR folders that are reported.
    Raises:
        UserError: the config trains on no texts, or the vectors do not serve one of the two.
    """
    if config.data != "texts":
        raise UserError(f"bench reduce compares trainings on texts, distill.data is {config.data!r}; set it to texts")
    sets = [dev_set(curated, dev_queries, dev_passages), *(beir_set(folder) for folder in beir)]
    config = with_prompts(config)
    field = config.model_copy(
        update={"head": "mean", "vectors_axes": "teacher", "vectors_projection": False, "vectors_teacher": None}
    )
    for one in (config, field):
        check_vectors(vectors.usable(), curated, one, Source.find(one).student_width(one))
    with reproducible(config.threads_per_worker, torch.device("cpu")), tempfile.TemporaryDirectory() as scratch:
        theirs = _Field(field, _texts(curated, vectors, field))
        ours = _Ours(Path(scratch), curated, vectors, config)
        _calibrate(theirs, ours)
        attempts = {Attempt(pick, rate): 0.0 for pick in picks for rate in learning_rates}
        for attempt in attempts:
            trained = theirs.train(attempt, 60 * search_minutes)
            (row,) = _rows("field, searched", attempt, search_minutes, sets[:1], trained)
            attempts[attempt] = row["ndcg_at_10"]
            yield row
        best = max(attempts, key=attempts.__getitem__)
        yield from _rows("field", best, minutes, sets, theirs.train(best, 60 * minutes))
        yield from _rows("ours", Attempt(config.layers, config.learning_rate), minutes, sets, ours.train(60 * minutes))


class Trained(NamedTuple):
    """What came out of a training."""

    student: SentenceTransformer
    seconds: float


class _Field:
    """sentence-transformers' trainer on texts and the teacher's vectors of them."""

    def __init__(self, config: DistillConfig, texts: Texts) -> None:
        from datasets import Dataset  # type: ignore[import-untyped]  # the trainer's own requirement, not ours

        self._config = config
        self._dataset = Dataset.from_dict({"sentence": texts.texts, "label": texts.vectors})
        self._sampler = by_length([len(text.split()) for text in texts.texts])
        self._step_s = {"float32": math.inf, "bf16": math.inf}

    def time(self) -> None:
        """Seconds a step in either precision, over batches of every length; the least of all turns is kept."""
        first = Attempt(PICKS[0], LEARNING_RATES[0])
        for precision, least in self._step_s.items():
            ends = self._train(first, FIRST_STEPS + SORTED_TOGETHER, is_bf16=precision == "bf16")[1]
            self._step_s[precision] = min(least, (ends[-1] - ends[FIRST_STEPS - 1]) / SORTED_TOGETHER)

    def told(self) -> str:
        timed = ", ".join(f"{step_s:.3f} s a step in {precision}" for precision, step_s in self._step_s.items())
        return f"the field's trainer: {timed}"

    def train(self, attempt: Attempt, seconds: float) -> Trained:
        """As many steps as fit, in the faster precision, by the seconds of the calibration."""
        precision = min(self._step_s, key=self._step_s.__getitem__)
        steps, started = max(1, int(seconds / self._step_s[precision])), time.perf_counter()
        student, _ = self._train(attempt, steps, is_bf16=precision == "bf16")
        return Trained(student, time.perf_counter() - started)

    def _train(self, attempt: Attempt, steps: int, *, is_bf16: bool) -> tuple[SentenceTransformer, list[float]]:
        student = initialise_student(self._config.model_copy(update={"layers": attempt.layers}))
        ends: list[float] = []

        class Watch(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.perf_counter())

        train_theirs(
            student,
            self._dataset,
            MSELoss(student),
            callbacks=[Watch()],
            max_steps=steps,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=attempt.learning_rate,
            warmup_ratio=0.1,
            bf16=is_bf16,
            use_cpu=True,
            batch_sampler=self._sampler,
            seed=self._config.seed,
        )
        return student, ends


class _Ours:
    """The loop of `distill` on a token cache under `scratch`, in the precision that the config or this machine says."""

    def __init__(self, scratch: Path, curated: TableVersion, vectors: TableVersion, config: DistillConfig) -> None:
        student = initialise_student(config)
        if config.precision == "auto":
            assert student.transformers_model is not None, "a student is a transformer"
            sizes = student.transformers_model.config
            fastest = fastest_on_cpu(sizes.hidden_size, sizes.intermediate_size, config.threads_per_worker)
            config = config.model_copy(update={"precision": fastest})
        self._config, self._steps_per_s = config, 0.0
        self._cache = build_token_cache(scratch, curated, student.tokenizer, config, vectors)

    def time(self) -> None:
        """Steps of average length a second, by the tokens of those that are timed; the most of all turns is kept."""
        timed = Timed()
        self._train(initialise_student(self._config), CALIBRATION_STEPS, timed)
        tokens_per_s = sum(line["tokens"] for line in timed.lines[1:]) / (timed.ends[-1] - timed.ends[0])
        per_step = float(self._cache.text_tokens.mean()) * self._config.texts_per_step
        self._steps_per_s = max(self._steps_per_s, tokens_per_s / per_step)

    def told(self) -> str:
        return f"ours: {1 / self._steps_per_s:.3f} s a step in {self._config.precision}"

    def train(self, seconds: float) -> Trained:
        """As many steps as fit, by the calibration."""
        student, started = initialise_student(self._config), time.perf_counter()
        self._train(student, max(1, int(seconds * self._steps_per_s)))
        return Trained(student, time.perf_counter() - started)

    def _train(self, student: SentenceTransformer, steps: int, *sinks: Timed) -> None:
        config = self._config.model_copy(update={"max_steps": steps, "epochs": 1_000})
        train_ours(student, self._cache, config, torch.device("cpu"), sinks)


def _calibrate(theirs: _Field, ours: _Ours) -> None:
    for _ in range(CALIBRATION_TURNS):
        theirs.time()
        ours.time()
    tell(f"bench: {theirs.told()}; {ours.told()}")


def _texts(curated: TableVersion, vectors: TableVersion, config: DistillConfig) -> Texts:
    """The texts that `distill` trains on, and their vectors."""
    teachers = vectors_teachers(vectors, curated, config)
    frames = [frame.filter(~pl.col("is_kept_out")) for frame in texts_with_vectors(curated, vectors, teachers, config)]
    named = ["kind", "text_id"]
    texts = pl.concat(frames).unique(named, keep="first", maintain_order=True).with_row_index("number")
    with tempfile.TemporaryDirectory() as folder:
        width = write_vectors(Path(folder) / "vectors", vectors, teachers, texts.select(*named, "number"))
        aligned = np.fromfile(Path(folder) / "vectors", np.float32).reshape(len(texts), width)
    return Texts(texts["text"].to_list(), aligned)


def _ndcg(student: SentenceTransformer, on: EvaluationSet) -> float:
    return ndcg_of(StudentEncoder(student.eval(), BATCH_SIZE), student, on)


def _rows(
    who: str, attempt: Attempt, minutes: float, sets: Sequence[EvaluationSet], trained: Trained
) -> Iterator[dict[str, Any]]:
    for on in sets:
        yield {
            "who": who,
            "layers": str(attempt.layers),
            "learning_rate": attempt.learning_rate,
            "minutes": minutes,
            "seconds": round(trained.seconds),
            "data_set": on.name,
            "ndcg_at_10": round(_ndcg(trained.student, on), 4),
        }
