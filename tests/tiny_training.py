"""A tiny training of the loop: a student, a token cache, and runs that can be killed at a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from pipelines.students.data.dev_set import DevSet
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.training.loop import STATE, TrainingSummary, train_student
from pipelines.students.training.sinks import Line, MetricsFile, Sink
from pipelines.students.training_config import TrainingConfig

WIDTH, WIDE = 32, 48  # of the student, of the wider teacher's vectors
SETTINGS = {
    "dimensions": (32, 8),
    "epochs": 2,
    "triplets_per_step": 12,
    "length_window_steps": 2,
    "learning_rate": 1e-3,
    "tokens_per_forward": 120,
    "checkpoint_every_steps": 7,
    "vectors": 0.5,
    "info_nce": 0.5,
}

OF_EACH_TEXT = {"info_nce": 0.0, "margin_mse": 0.0, "freeze_embeddings": True, "tokens_per_forward": 40}
"""Changes of SETTINGS after which no term asks for another text than its own."""

EVERY_TERM = {  # beside those of SETTINGS, with all that can be trained in them
    "margin_scale": "fitted",
    "info_nce_false_negative_share": 0.9,
    "info_nce_false_negative_margin": 0.02,
    "vectors_projection": True,
    "kl": 0.5,
    "kl_target": "score",
    "kl_teacher_temperature": 1.0,
    "pointwise": 0.5,
    "pointwise_scale": "fitted",
    "pointwise_offset": "fitted",
    "spread_out": 0.5,
}


class Killed(Exception):
    """What a test raises from a sink or a callback to stop a run there."""


@dataclass(frozen=True)
class Setting:
    """Where the untrained student and the token cache lie: all that a rank needs, and can be sent to a process."""

    untrained: str
    cache: str
    dev: str = ""  # where the dev set lies, where one is needed

    def student(self, dropout: float = 0.0) -> SentenceTransformer:
        config = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return SentenceTransformer(self.untrained, device="cpu", config_kwargs=config)

    def train(
        self,
        folder: Path,
        *,
        resume_from: Path | None = None,
        kill_at_step: int | None = None,
        kill_at_checkpoint: int | None = None,
        carried: Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        **changes: Any,
    ) -> tuple[TrainingSummary, SentenceTransformer, list[Line]]:
        """One rank's run; raises Killed after a step's line of metrics, or after a checkpoint was saved."""
        student = self.student(changes.get("dropout", 0.0)).to(dtype)
        lines: list[Line] = []

        class Recorder(Sink):
            def step(self, line: Line) -> None:
                lines.append(line)
                if line["step"] == kill_at_step:
                    raise Killed

        def on_checkpoint(step: int, checkpoint: Path | None) -> None:
            if step == kill_at_checkpoint:
                raise Killed

        summary = train_student(
            student,
            TokenCache.open(Path(self.cache)),
            TrainingConfig(**(SETTINGS | changes)),
            folder=folder,
            device=torch.device(device),
            resume_from=resume_from,
            on_checkpoint=on_checkpoint,
            sinks=[MetricsFile(folder), Recorder()],
            carried=carried,
            dev=DevSet.open(Path(self.dev)) if changes.get("dev_every_steps") else None,
        )
        return summary, student, lines


def weights_of(student: SentenceTransformer) -> torch.Tensor:
    """All weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def steps_saved(folder: Path) -> list[int]:
    """The steps of the checkpoints in a rank's folder."""
    return sorted(int(path.parent.name.removeprefix("step_")) for path in folder.glob(f"*/{STATE}"))
