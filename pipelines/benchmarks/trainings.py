"""How the benches train: our loop without Ray, and sentence-transformers' trainer at its best.

Both leave nothing behind but the trained model, and print nothing on stdout.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import nn
from transformers.trainer_pt_utils import LengthGroupedSampler

from pipelines.students.data.token_cache import TokenCache
from pipelines.students.training.loop import TrainingSummary, train_student
from pipelines.students.training.sinks import Line, Sink
from pipelines.students.training_config import TrainingConfig


class Timed(Sink):
    """Keeps each step's line, and the second at which the step ended."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.ends: list[float] = []

    def step(self, line: Line) -> None:
        self.lines.append(line)
        self.ends.append(time.perf_counter())


def train_ours(
    student: SentenceTransformer,
    cache: TokenCache,
    config: TrainingConfig,
    device: torch.device,
    sinks: Sequence[Sink] = (),
) -> TrainingSummary:
    """The loop of `distill` on this process alone, without checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        return train_student(
            student,
            cache,
            config,
            folder=Path(folder),
            device=device,
            resume_from=None,
            on_checkpoint=lambda step, checkpoint: None,
            sinks=sinks,
        )


def train_theirs(
    model: SentenceTransformer, dataset: Any, loss: nn.Module, *, callbacks: Any = (), **given: Any
) -> None:
    """sentence-transformers' trainer with the arguments that are `given`, without checkpoints and logs."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):  # it prints what it logs
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            optim="adamw_torch_fused",
            dataloader_pin_memory=False,
            **given,
        )
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=dataset, loss=loss, callbacks=list(callbacks)
        ).train()


def by_length(lengths: Sequence[int]) -> Callable[..., DefaultBatchSampler]:
    """Batches of rows of similar length, by the sampler of `group_by_length`.

    sentence-transformers 6.2 makes its own batches and passes `train_sampling_strategy` over in silence.
    """

    def sampler(dataset: Any, batch_size: int, generator: torch.Generator | None = None, **rest: Any) -> Any:
        order = LengthGroupedSampler(batch_size, lengths=list(lengths), generator=generator)
        return DefaultBatchSampler(order, batch_size=batch_size, generator=generator, **rest)

    return sampler
