"""One rank's training loop: torch only, inside or outside Ray; it reports through callbacks.

    embed this rank's texts -> gather all embeddings of the step -> loss of the whole step -> gradients of my texts

Every rank holds all embeddings of the step as a leaf, computes the whole loss from them (small beside the encoder)
and sends only its own rows' gradients back through its own texts: DistributedDataParallel's average, times the number
of ranks, is then exactly the single-process gradient, for every term. No collective has a backward of its own.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.checkpoints.run_folder import METRICS, MODEL
from pipelines.students.config import TrainingConfig
from pipelines.students.data.plan import Ints, StepBatch, padded_tokens, share_texts
from pipelines.students.data.schedule import Schedule, learning_rate_at
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.objective.registry import step_loss
from pipelines.students.objective.step import Step

STATE = "state.pt"
ADVICE = "the last checkpoint is kept. Lower learning_rate, or use precision float32 or bf16"
TOKENS_PER_FORWARD = {"cpu": 1_024, "cuda": 32_768}  # a CPU's caches hold little; a GPU wants large matrices


class NonFiniteLoss(ArithmeticError):
    """The loss is infinite or not a number: going on would only spoil the weights."""


class TrainingSummary(NamedTuple):
    """What came out, equal on every rank."""

    steps: int
    seconds: float  # of training, those before a resume included


OnCheckpoint = Callable[[int, Path | None], None]
OnStep = Callable[[dict[str, Any], int], None]


def train_student(
    student: SentenceTransformer,
    cache: TokenCache,
    config: TrainingConfig,
    *,
    folder: Path,
    device: torch.device,
    resume_from: Path | None,
    on_checkpoint: OnCheckpoint,
    on_step: OnStep,
) -> TrainingSummary:
    """Train on every rank of the default process group, or alone where there is none.

    Args:
        folder: this rank's own, for metrics and checkpoints on their way out.
        resume_from: a checkpoint's folder. The rest is then bit-identical to a run that was never interrupted.
        on_checkpoint: called on every rank with the step; with a folder (state, metrics and, at the end, the
            saved model) on rank 0, with None elsewhere.
        on_step: called on rank 0 with the step's line of metrics and the number of all steps.
    """
    with reproducible(config.threads_per_worker, device):
        trainer = _Trainer(student, cache, config, folder, device)
        trainer.start(resume_from)
        trainer.run(on_checkpoint, on_step)
        return TrainingSummary(trainer.step, trainer.seconds)


@contextmanager
def reproducible(threads: int, device: torch.device) -> Iterator[None]:
    """A fixed number of threads and deterministic kernels; what cannot be deterministic on a GPU warns."""
    threads_before, was_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    was_filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    # Filling costs time, and nothing here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(was_deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = was_filling  # type: ignore[attr-defined]


class _Embedder(nn.Module):
    """The student with tensors in and a tensor out, as DistributedDataParallel wants it."""

    def __init__(self, student: SentenceTransformer) -> None:
        super().__init__()
        self.student = student

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        embeddings: Tensor = self.student({"input_ids": input_ids, "attention_mask": attention_mask})[
            "sentence_embedding"
        ]
        return embeddings


class _Trainer:
    """The state of one rank: model, optimizer, scaler, step."""

    def __init__(
        self,
        student: SentenceTransformer,
        cache: TokenCache,
        config: TrainingConfig,
        folder: Path,
        device: torch.device,
    ) -> None:
        self.config, self.cache, self.folder, self.device = config, cache, folder, device
        self.rank, self.num_ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.step, self.seconds = 0, 0.0
        self.student = student.to(device).train(config.dropout > 0)
        if config.freeze_embeddings:
            assert student.transformers_model is not None, "a student is a transformer"
            student.transformers_model.get_input_embeddings().requires_grad_(False)
        self.embedder = _Embedder(self.student)
        self.parallel = (
            DistributedDataParallel(self.embedder, forward_sync_buffers=False) if self.num_ranks > 1 else None
        )
        self.pad_token_id = int(student.tokenizer.pad_token_id)
        self.schedule = Schedule(cache, config)
        self.dtype = _autocast_dtype(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.optimizer = _optimizer(self.embedder, config)

    def start(self, resume_from: Path | None) -> None:
        """From the beginning or from a checkpoint; then one backward of nothing.

        DistributedDataParallel rebuilds its buckets after its first backward and from then on reduces in another
        order: without this, from three ranks on, a resumed step would differ in its last bits.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.metrics = self.folder / METRICS
        if resume_from is None:
            self.metrics.write_bytes(b"")
        else:
            self._load(resume_from)
        if self.parallel is not None:
            nothing = self._embed(self.parallel, np.zeros(1, dtype=np.int64), sub_forward=0).sum() * 0
            nothing.backward()  # type: ignore[no-untyped-call]
            self.optimizer.zero_grad(set_to_none=True)

    def run(self, on_checkpoint: OnCheckpoint, on_step: OnStep) -> None:
        """All steps that are left, with a checkpoint every so many and at the end."""
        num_steps = self.schedule.num_steps
        while self.step < num_steps:
            started = time.perf_counter()
            line = self._train_step()
            self.seconds += time.perf_counter() - started
            self.step += 1
            if self.rank == 0:
                with self.metrics.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                on_step(line, num_steps)
            if self.step % self.config.checkpoint_every_steps == 0 and self.step < num_steps:
                on_checkpoint(self.step, self._save(is_last=False))
        on_checkpoint(self.step, self._save(is_last=True))

    def _train_step(self) -> dict[str, Any]:
        """One optimizer step; returns its line of metrics."""
        started = time.perf_counter()
        batch = self.schedule.batch(self.step)
        tokens = self.cache.text_tokens[batch.texts]
        shares = share_texts(tokens, self.num_ranks, self._tokens_per_forward())
        terms, loss = self._accumulate(batch, shares[self.rank])
        learning_rate = learning_rate_at(self.step, self.schedule.num_steps, self.config)
        grad_norm = self._update(learning_rate)
        num_padded = sum(padded_tokens(tokens, share) for share in shares)
        return {
            "step": self.step,
            "epoch": self.schedule.epoch(self.step),
            "loss": loss,
            **terms,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "triplets": len(batch.triplets),
            "texts": len(batch.texts),
            "tokens": int(tokens.sum()),
            "padding_share": round(1 - int(tokens.sum()) / num_padded, 4),
            "triplets_per_s": round(len(batch.triplets) / (time.perf_counter() - started), 2),
        }

    def _accumulate(self, batch: StepBatch, share: list[Ints]) -> tuple[dict[str, float], float]:
        """Gradients of the whole step's loss in this rank's parameters; returns the terms and the loss.

        The graphs of all sub-forwards are kept until the loss is known, or made anew (`recompute_embeddings`).
        """
        texts = [batch.texts[rows] if len(rows) else batch.texts[-1:] for rows in share]
        recompute = self.config.recompute_embeddings
        with torch.no_grad() if recompute else nullcontext():
            embeddings = [self._embed_part(texts, part, without_ddp=recompute) for part in range(len(share))]
        terms, loss, gradient_TD = self._loss(batch, share, embeddings)
        gradients = [
            gradient_TD[torch.as_tensor(rows, device=self.device)] if len(rows) else torch.zeros_like(embedded)
            for rows, embedded in zip(share, embeddings, strict=True)
        ]
        if recompute:
            for part, gradient in enumerate(gradients):
                with self._no_sync_but(part == len(share) - 1):
                    self._embed_part(texts, part).backward(gradient)  # type: ignore[no-untyped-call]
        else:
            torch.autograd.backward(embeddings, gradients)
        return terms, loss

    def _loss(
        self, batch: StepBatch, share: list[Ints], embeddings: list[Tensor]
    ) -> tuple[dict[str, float], float, Tensor]:
        """The step's terms and loss, and the gradient of every text's embedding, ready for DDP's average."""
        everything_TD = embeddings[0].new_zeros((len(batch.texts), embeddings[0].shape[1]))
        for rows, embedded in zip(share, embeddings, strict=True):
            if len(rows):
                everything_TD[torch.as_tensor(rows, device=self.device)] = embedded.detach()
        if self.num_ranks > 1:
            dist.all_reduce(everything_TD)  # rows of other ranks are 0 here: the sum is the gathering
        everything_TD.requires_grad_()
        targets = self.cache.arrays["targets"][batch.triplets]
        loss, terms = step_loss(Step(everything_TD, batch, targets, self._teacher(batch)), self.config)
        values = {term: value.item() for term, value in terms.items()}
        if not math.isfinite(loss.item()):
            raise NonFiniteLoss(
                f"the loss of step {self.step} is {loss.item()} (terms: {values}), expected a finite number; {ADVICE}"
            )
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        assert everything_TD.grad is not None
        return values, loss.item(), everything_TD.grad * self.num_ranks

    def _teacher(self, batch: StepBatch) -> Tensor | None:
        if not self.config.weights_on_teacher_vectors():
            return None
        return torch.as_tensor(self.cache.arrays["vectors"][batch.texts], device=self.device)

    def _embed_part(self, texts: list[Ints], part: int, without_ddp: bool = False) -> Tensor:
        """One sub-forward. DDP's gradients are exchanged in the backward of the last one only."""
        if self.parallel is None or without_ddp:
            return self._embed(self.embedder, texts[part], part)
        with self._no_sync_but(part == len(texts) - 1):
            return self._embed(self.parallel, texts[part], part)

    def _embed(self, model: nn.Module, texts: Ints, sub_forward: int) -> Tensor:
        input_ids, attention_mask = self.cache.padded(texts, self.pad_token_id)
        if self.config.dropout:
            seeds = np.random.SeedSequence([self.config.seed, self.step, self.rank, sub_forward])
            torch.manual_seed(int(seeds.generate_state(1)[0]))
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            embedded: Tensor = model(
                torch.from_numpy(input_ids).to(self.device), torch.from_numpy(attention_mask).to(self.device)
            )
        return embedded.to(torch.promote_types(embedded.dtype, torch.float32))

    def _no_sync_but(self, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext() if is_last or self.parallel is None else self.parallel.no_sync()

    def _update(self, learning_rate: float) -> float | None:
        """Clip, step, and forget the gradients; returns their norm before clipping.

        None: they overflowed in fp16, and the scaler left the step out and lowered its scale.
        """
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.embedder.parameters(), self.config.max_grad_norm))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise NonFiniteLoss(f"the gradient of step {self.step} has norm {norm}, expected a finite one; {ADVICE}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm if math.isfinite(norm) else None

    def _tokens_per_forward(self) -> int:
        return self.config.tokens_per_forward or TOKENS_PER_FORWARD[self.device.type]

    def _save(self, is_last: bool) -> Path | None:
        """A checkpoint's folder on rank 0: state, metrics so far and, at the end, the student itself."""
        if self.rank != 0:
            return None
        folder = self.folder / f"step_{self.step}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        state = {
            "model": self.embedder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, folder / STATE)
        shutil.copy(self.metrics, folder / METRICS)
        if is_last:
            self.student.save_pretrained(str(folder / MODEL), create_model_card=False)
        return folder

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / STATE, map_location=self.device, weights_only=True)
        self.embedder.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        shutil.copy(checkpoint / METRICS, self.metrics)  # no line past the checkpoint's step


def _autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """None is float32 throughout."""
    if precision == "auto":
        precision = "float32" if device.type == "cpu" else "bf16"
    return {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors (biases, norms) don't. The learning rate is set at every step."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
