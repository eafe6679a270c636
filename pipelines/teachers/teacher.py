"""What all kinds of teacher share: construction from a folder and a config, device, name, limits, refusals."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipelines.checkpoints.load import longest_input
from pipelines.stage.errors import UserError
from pipelines.teachers.batches import Scores
from pipelines.teachers.config import DTYPES, TeacherConfig, check_folder, check_length, prompts_of, teacher_name

CPU_BATCH_TOKENS = 2_048
"""Tried on 2 cores (6 layers, 384 wide): 8,192 tokens fall out of the caches and lose most of what sorting gains."""

GPU_BATCH_TOKENS = 131_072
"""256 pairs of 512 tokens: fewer batches to launch, which is most of what a small model takes."""


class Teacher(ABC):
    """A model that scores pairs of texts. A kind of teacher says how it is loaded, how it scores and what breaks it."""

    def __init__(self, folder: Path, config: TeacherConfig, device: str | None = None) -> None:
        """Load the model, or refuse it with a UserError that says what was found and what to do.

        Args:
            folder: local; `pipelines.checkpoints.find` gets it there.
            device: "cpu" or "cuda"; None is CUDA where there is one.
        """
        self.folder, self.config = folder, config
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_tokens = config.batch_tokens or (CPU_BATCH_TOKENS if self.device.type == "cpu" else GPU_BATCH_TOKENS)
        self.prompts = prompts_of(folder, config)
        check_folder(folder, config)
        with quiet():
            encoder = self.load(getattr(torch, DTYPES[config.precision]))
        check_length(folder, config, None if encoder is None else longest_input(encoder))

    @cached_property
    def name(self) -> str:
        """`basename@12hex`, as `name_teacher` gives it without loading the model."""
        return teacher_name(self.folder, self.config)

    def score(self, queries: list[str], passages: list[str]) -> Scores:
        """The pairs (queries[i], passages[i]) in order; a pair that cannot be scored has its error.

        Raises:
            UserError: the teacher itself is broken: it cannot read a plain sentence either.
        """
        if len(queries) != len(passages):
            raise ValueError(f"score got {len(queries)} queries and {len(passages)} passages, expected pairs")
        return self.score_pairs(queries, passages, self.check_model)

    @abstractmethod
    def load(self, dtype: torch.dtype) -> PreTrainedModel | None:
        """Load the model onto the device; returns what limits the length of the input, if that is known."""

    @abstractmethod
    def score_pairs(self, queries: list[str], passages: list[str], check_model: Callable[[], None]) -> Scores:
        """`score`, calling `check_model` once, when the first row has failed alone."""

    @abstractmethod
    def check_model(self) -> None:
        """Read a plain text: tells a poisoned text from a broken teacher, which is refused."""

    def refuse(self, what: str, error: str | None) -> None:
        """Raise UserError when there is an error: the teacher cannot do `what`, whatever the text."""
        if error:
            raise UserError(
                f"teacher {self.folder} cannot {what}: {error}; its weights are damaged or too large for precision "
                f"{self.config.precision}: fetch them again, or set precision to float32"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Load without transformers' reports and progress bars: an actor loads, and so its driver's screen would fill."""
    verbosity = transformers_logging.get_verbosity()
    had_progress_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_progress_bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
