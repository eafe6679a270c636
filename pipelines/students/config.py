"""Every number of a distillation: how the objective is trained, which student and on what; read without torch.

Each part sees its own: the losses (objective/config.py), the loop (torch only), and the stage (Ray, folders).
"""

from typing import Literal

from pydantic import Field

from pipelines.students.objective.config import ObjectiveConfig

LayerPick = Literal["uniform", "uniform_with_last", "first", "last"]


class TrainingConfig(ObjectiveConfig):
    """How the student is trained; the defaults are the guide's."""

    epochs: int = Field(3, ge=1)
    """How often every triplet is seen."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many steps, the learning rate decaying towards that end; None trains all epochs."""
    triplets_per_step: int = Field(128, ge=1)
    """Triplets a step on all workers together, on average: a query's triplets stay together."""
    length_window_steps: int = Field(50, ge=1)
    """Groups are sorted by length inside random windows of so many steps; 1 samples without regard to length."""
    learning_rate: float = Field(2e-5, gt=0)
    """Highest learning rate, reached after the warm-up; it then falls linearly to 0."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decay of matrices; biases and norms have none."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    freeze_embeddings: bool = False
    """Leave the token embeddings as the source has them: often more than half of a small student's weights, and so of
    what every step sends between ranks and keeps for the optimizer."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """0: a distilled student needs none, and masks would depend on the number of workers."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Of the encoder's arithmetic; weights and losses stay float32. auto: bf16 on a GPU, float32 on a CPU."""
    tokens_per_forward: int | None = Field(None, ge=1)
    """Padded tokens of one sub-forward; None: 1,024 on a CPU, 32,768 on a GPU."""
    recompute_embeddings: bool = False
    """Embed every text twice, without and then with its graph: memory of one sub-forward instead of the whole step,
    for one more forward (about a third more time)."""
    checkpoint_every_steps: int = Field(500, ge=1)
    """A run that is killed goes on from its last checkpoint."""
    threads_per_worker: int = Field(1, ge=1)
    """CPU threads of each worker: another number gives other last bits, so it is fixed here, not by the machine."""
    seed: int = Field(0, ge=0)
    """Of the batch plan, and of dropout where there is any."""


class DistillConfig(TrainingConfig):
    """Which student, and how it is trained. Stored with the model, and part of the run's identity."""

    source_model: str = "answerdotai/ModernBERT-base"
    """Hub id or folder of the encoder whose layers the student takes."""
    num_layers: int = Field(6, ge=1)
    """Layers of the student."""
    layers: LayerPick | tuple[int, ...] = "uniform"
    """Which layers of the source: uniform (0, 4, 8, 12, 16, 20 of 22), uniform_with_last, first, last, or a list."""
    max_tokens: int = Field(512, ge=2)
    """Longer texts are cut, special tokens included; how many is in run.json."""
    query_prompt: str = ""
    """Put before every query, in training and by the model's own encode_query."""
    passage_prompt: str = ""
    """Put before every passage, in training and by the model's own encode_document."""
    vectors_teacher: str | None = None
    """Whose vectors to regress to, where the vectors version has those of several teachers."""
    num_workers: int = Field(1, ge=1)
    """Ray Train workers, one GPU each if there are GPUs. Another number gives other last bits."""
    use_gpu: Literal["auto"] | bool = "auto"
    """auto: on GPUs if the cluster has any."""
    max_failures: int = Field(3, ge=0)
    """How often training goes on from the last checkpoint after a worker fails; preemptions don't count."""
