"""One rank's training loop: torch only, inside or outside Ray; it tells its sinks, and hands out its checkpoints.

    embed this rank's texts -> gather all embeddings of the step -> loss of the whole step -> gradients of my texts

Every rank holds all embeddings of the step as a leaf, computes the whole loss from them (small beside the encoder)
and sends only its own rows' gradients back through its own texts: DistributedDataParallel's average, times the number
of ranks, is then exactly the single-process gradient, for every term. No collective has a backward of its own.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from pipelines.checkpoints.files import MODEL, OBJECTIVE, STATE
from pipelines.students.data.plan import Ints, Schedule, StepBatch, learning_rate_at, share_texts
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.heads import turn
from pipelines.students.objective.matryoshka import Step
from pipelines.students.objective.registry import Objective
from pipelines.students.place import ALONE, Place
from pipelines.students.training.averaging import StartAverage
from pipelines.students.training.choosing import Chooser, Weights
from pipelines.students.training.encoder import RankEncoder
from pipelines.students.training.not_finite import check_weights, in_step
from pipelines.students.training.optimizer import Optimizer
from pipelines.students.training.sinks import Line, Sink
from pipelines.students.training_config import TrainingConfig

if TYPE_CHECKING:  # what makes it reads tables
    from pipelines.students.data.dev_set import DevSet

STARTING_TEXTS = 4_096  # what is trained in the objective starts from: some times the width of a student's embeddings

OnCheckpoint = Callable[[int, Path | None], None]


class TrainingSummary(NamedTuple):
    """What came out, equal on every rank."""

    steps: int
    seconds: float  # of training, those before a resume included
    dev: dict[str, Any] | None  # which step's student was taken, and by what; None where it is the last one's


def train_student(
    student: SentenceTransformer,
    cache: TokenCache,
    config: TrainingConfig,
    *,
    folder: Path,
    device: torch.device,
    resume_from: Path | None,
    on_checkpoint: OnCheckpoint,
    sinks: Sequence[Sink],
    place: Place = ALONE,
    carried: Path | None = None,
    dev: "DevSet | None" = None,
) -> TrainingSummary:
    """Train on every rank of the default process group, or alone where there is none.

    Args:
        folder: this rank's own, for checkpoints on their way out.
        resume_from: a checkpoint's folder. The rest is then bit-identical to a run that was never interrupted.
        on_checkpoint: called on every rank with the step; with a folder (state, what the sinks keep and, at the end,
            the saved model and what the objective trained, if anything) on rank 0, with None elsewhere.
        sinks: what hears of every step; those of rank 0 are told.
        place: of this stage, whose lines of metrics have its name and go on counting steps and seconds.
        carried: what the stage before kept beside its model, where there was one: its sinks' files, and what its
            objective trained, for this one's to begin with.
        dev: where config.dev_every_steps says so, what the student is chosen by.
    Raises:
        NonFinite: on every rank, at the same step, before a weight has moved.
    """
    with reproducible(config.threads_per_worker, device):
        trainer = _Trainer(RankEncoder(student, cache, config, device), cache, config, folder, sinks, place, dev)
        trainer.start(resume_from, carried)
        try:
            trainer.run(on_checkpoint)
        finally:
            for sink in trainer.sinks:
                sink.end()
        return TrainingSummary(
            trainer.step, trainer.seconds, trainer.chooser.summary(trainer.step, trainer.schedule.num_steps)
        )


@contextmanager
def reproducible(threads: int, device: torch.device) -> Iterator[None]:
    """A fixed number of threads and deterministic kernels; what has none raises.

    Measured on a CPU (tests/determinism.py): the number of threads decides the bytes. Deterministic kernels changed
    none, with 1, 2 and 4 threads: they are for GPUs, and for a term to come that adds at indices (matryoshka.rows_at).
    """
    threads_before, was_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    was_filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read before the first product
    torch.use_deterministic_algorithms(True)
    # Filling costs time, and nothing here reads uninitialised memory: with it come the same bytes (measured).
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(was_deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = was_filling  # type: ignore[attr-defined]


class _Trainer:
    """The state of one rank: student, objective, optimizer, step."""

    def __init__(
        self,
        encoder: RankEncoder,
        cache: TokenCache,
        config: TrainingConfig,
        folder: Path,
        sinks: Sequence[Sink],
        place: Place,
        dev: "DevSet | None",
    ) -> None:
        self.encoder, self.cache, self.config, self.folder, self.place = encoder, cache, config, folder, place
        self.sinks = sinks if encoder.rank == 0 else []
        self.device, self.step, self.seconds = encoder.device, 0, 0.0
        width = encoder.student.get_embedding_dimension()
        assert width is not None, "a student pools"
        self.objective = Objective(config, width, cache.summary["vector_width"])
        self.objective.to(encoder.device, next(encoder.module.parameters()).dtype)
        trained = nn.ModuleList([encoder.module, self.objective])
        self.optimizer = Optimizer(trained, config, encoder.device, encoder.dtype)
        self.schedule = Schedule(cache, config)
        self.average = StartAverage(trained, config.start_share)
        self.chooser = Chooser(dev, encoder, config, self.average)

    def start(self, resume_from: Path | None, carried: Path | None) -> None:
        """From the beginning, of the first stage or of one that another's files are carried on to, or a checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume_from is not None:
            state = torch.load(resume_from / STATE, map_location=self.device, weights_only=True)
            self._load_weights(state)
            self.optimizer.load(state)
            self.average.load(state)
            self.chooser.load(state)
            self.step, self.seconds = state["step"], state["seconds"]
        self.encoder.warm_up()
        if resume_from is None:
            if carried is not None and (carried / OBJECTIVE).exists():
                self.objective.take_up(carried / OBJECTIVE)
            if self.objective.is_to_start:
                rotation_DD = self.objective.start(self._first_steps())
                if rotation_DD is not None:
                    turn(self.encoder.student, rotation_DD)
            self.average.begin()
        for sink in self.sinks:
            sink.start(self.step, self.schedule.num_steps, resume_from or carried)

    @torch.no_grad()
    def _first_steps(self) -> list[Step]:
        """The first steps, or as many as have the texts that a start needs, embedded by the student as it is."""
        steps: list[Step] = []
        while len(steps) < self.schedule.num_steps and sum(len(step.batch.texts) for step in steps) < STARTING_TEXTS:
            batch = self.schedule.batch(len(steps))
            tokens = self.cache.text_tokens[batch.texts]
            shares = share_texts(tokens, self.encoder.num_ranks, self.encoder.tokens_per_forward)
            parts = shares[self.encoder.rank]
            embeddings = self.encoder.embed(_texts_of(batch, parts), len(steps))
            steps.append(self._step(batch, self.encoder.gathered(len(batch.texts), parts, embeddings)))
        return steps

    def run(self, on_checkpoint: OnCheckpoint) -> None:
        """All steps that are left, with a checkpoint every so many and at the end."""
        num_steps = self.schedule.num_steps
        while self.step < num_steps and not self.chooser.is_over:
            started = time.perf_counter()
            line = self._train_step()
            self.seconds += time.perf_counter() - started
            self.step += 1
            seconds = round(self.place.seconds_before + self.seconds, 3)
            line |= {"seconds": seconds, **self.chooser.after(self.step, num_steps, self._weights)}
            for sink in self.sinks:
                sink.step(line)
            is_last = self.step == num_steps or self.chooser.is_over
            if self.step % self.config.checkpoint_every_steps == 0 and not is_last:
                on_checkpoint(self.step, self._save(is_last=False))
        on_checkpoint(self.step, self._save(is_last=True))
        for sink in self.sinks:
            sink.finish(self._save_student)

    def _train_step(self) -> Line:
        """One optimizer step; returns its line of metrics."""
        started = time.perf_counter()
        batch = self.schedule.batch(self.step)
        tokens = self.cache.text_tokens[batch.texts]
        parts_of_ranks = share_texts(tokens, self.encoder.num_ranks, self.encoder.tokens_per_forward)
        losses = self._accumulate(batch, parts_of_ranks[self.encoder.rank])
        learning_rate = learning_rate_at(self.step, self.schedule.num_steps, self.config)
        try:
            grad_norm = self.optimizer.update(learning_rate)
        except ArithmeticError as error:
            raise in_step(f"the gradient of step {self.step} {error}", batch, self.cache, None) from error
        num_computed = sum(self.encoder.computed_tokens(tokens, parts) for parts in parts_of_ranks)
        num_queries, seconds = len(np.unique(batch.query)), time.perf_counter() - started
        return {
            "stage": self.place.name,
            "step": self.place.steps_before + self.step,
            "epoch": self.schedule.epoch(self.step),
            **losses,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "queries": num_queries,
            "triplets": len(batch.triplets),
            "texts": len(batch.texts),
            "tokens": int(tokens.sum()),
            "padding_share": round(1 - int(tokens.sum()) / num_computed, 4),
            "triplets_per_s": round(len(batch.triplets) / seconds, 2),
            "queries_per_s": round(num_queries / seconds, 2),
        }

    def _accumulate(self, batch: StepBatch, parts: list[Ints]) -> dict[str, float]:
        """Gradients of the whole step's loss in this rank's parameters; returns the loss and its unweighted terms.

        Args:
            parts: rows of `batch.texts` of each sub-forward.
        """
        texts = _texts_of(batch, parts)
        if self.objective.is_of_each_text and self.encoder.can_take_turns:
            return self._accumulate_in_turn(batch, texts, parts)
        embeddings = self.encoder.embed(texts, self.step)
        everything_TD = self.encoder.gathered(len(batch.texts), parts, embeddings)
        losses, gradient_TD = self._loss(batch, everything_TD.requires_grad_())  # a leaf
        gradients = [
            gradient_TD[torch.as_tensor(rows, device=self.device)] if len(rows) else torch.zeros_like(embedded)
            for rows, embedded in zip(parts, embeddings, strict=True)
        ]
        self.encoder.backward(texts, self.step, embeddings, gradients)
        return losses

    def _accumulate_in_turn(self, batch: StepBatch, texts: list[Ints], parts: list[Ints]) -> dict[str, float]:
        """The same, one sub-forward after the other: the others' texts, whatever they are, change no gradient."""
        step = self._step(batch, torch.empty(0, device=self.device))

        def gradient_of(part: int, embeddings_PD: Tensor) -> Tensor:
            rows = torch.as_tensor(parts[part], device=self.device)
            if not len(rows):
                return torch.zeros_like(embeddings_PD)
            alone_TD = embeddings_PD.new_zeros((len(batch.texts), embeddings_PD.shape[1]))
            alone_TD[rows] = embeddings_PD
            loss, _ = self.objective(step._replace(embeddings_TD=alone_TD.requires_grad_()))
            return self._gradient(loss, alone_TD)[rows]

        embeddings = self.encoder.embed_in_turn(texts, self.step, gradient_of)
        everything_TD = self.encoder.gathered(len(batch.texts), parts, embeddings)
        with torch.no_grad():
            _, losses = self._values(batch, everything_TD)
        return losses

    def _step(self, batch: StepBatch, embeddings_TD: Tensor) -> Step:
        """The step with what the teacher says of it."""
        arrays = self.cache.arrays
        teacher_TD = None
        if self.config.weights_on_teacher_vectors():
            teacher_TD = torch.as_tensor(arrays["vectors"][batch.texts], device=self.device)
        targets, candidate_targets = arrays["targets"][batch.triplets], arrays["candidate_targets"][batch.candidates]
        return Step(embeddings_TD, batch, targets, teacher_TD, candidate_targets)

    def _loss(self, batch: StepBatch, embeddings_TD: Tensor) -> tuple[dict[str, float], Tensor]:
        """Equal on every rank: the loss and its terms, and each embedding's gradient, ready for the ranks' average."""
        loss, losses = self._values(batch, embeddings_TD)
        return losses, self._gradient(loss, embeddings_TD)

    def _gradient(self, loss: Tensor, embeddings_TD: Tensor) -> Tensor:
        self.optimizer.backward(loss)
        assert embeddings_TD.grad is not None
        return embeddings_TD.grad * self.encoder.num_ranks

    def _values(self, batch: StepBatch, embeddings_TD: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The loss, and it and its terms as numbers. Raises NonFinite."""
        loss, values = self.objective(self._step(batch, embeddings_TD))
        terms = {term: value.item() for term, value in values.items()}
        if not math.isfinite(loss.item()):
            told = f"the loss of step {self.step} is {loss.item()} (terms: {terms})"
            raise in_step(told, batch, self.cache, embeddings_TD)
        return loss, {"loss": loss.item(), **terms}

    def _weights(self) -> Weights:
        """All that is trained: what a checkpoint keeps of it, and what the best step had."""
        return {"model": self.encoder.module.state_dict(), "objective": self.objective.state_dict()}

    def _load_weights(self, weights: Mapping[str, Any]) -> None:
        self.encoder.module.load_state_dict(weights["model"])
        self.objective.load_state_dict(weights.get("objective", {}))  # older commits had nothing to train there

    def _save(self, is_last: bool) -> Path | None:
        """A checkpoint's folder on rank 0: state, what the sinks keep and, at the end, the student itself."""
        check_weights(nn.ModuleList([self.encoder.module, self.objective]), self.step)
        if self.encoder.rank != 0:
            return None
        folder = self.folder / f"step_{self.step}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        state = {**self._weights(), **self.optimizer.state(), **self.average.state(), **self.chooser.state()}
        with (folder / STATE).open("wb") as file:  # a full disk is then an OSError; torch's own writer hides it
            torch.save(state | {"step": self.step, "seconds": self.seconds}, file)
        for sink in self.sinks:
            sink.save(folder)
        if is_last:
            if (best := self.chooser.best()) is not None:
                self._load_weights(best)
            self.average.apply()
            self._save_student(folder / MODEL)
            self.objective.save(folder / OBJECTIVE)
        return folder

    def _save_student(self, folder: Path) -> None:
        self.encoder.student.save_pretrained(str(folder), create_model_card=False)


def _texts_of(batch: StepBatch, parts: list[Ints]) -> list[Ints]:
    """The texts of each sub-forward; any text for an empty one, as every rank must take part in every exchange."""
    return [batch.texts[rows] if len(rows) else batch.texts[-1:] for rows in parts]
