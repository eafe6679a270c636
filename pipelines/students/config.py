"""Every number of a distillation: what the student learns, how, and which student; read without torch.

Each part sees its own: the losses (objective/), the loop (torch only), and the stage (Ray, folders).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.stage.config import Config

LayerPick = Literal["uniform", "uniform_with_last", "first", "last"]
WEIGHT, LEARNS_FROM_VECTORS = "a term's weight", "of a term that learns from the teacher's vectors"  # marks of fields


class ObjectiveConfig(Config):
    """What the student learns: the weighted sum of the terms, each summed over the Matryoshka dimensions.

    A term is a weight of its name here, with the fields it needs; a module of objective/; a line in its registry.py.
    """

    dimensions: tuple[Annotated[int, Field(ge=1)], ...] = Field((768, 512, 256, 128, 64), min_length=1)
    """Matryoshka dimensions: the student is trained to rank well when its vectors are cut to any of them."""
    margin_mse: Annotated[float, WEIGHT] = Field(1.0, ge=0)
    """Weight of MarginMSE, the mean over the step's triplets; 0 is off."""
    margin_target: Literal["relevance_margin", "score_margin"] = "relevance_margin"
    """The teacher's margin between positive and negative: of its relevances (-1..1), or of its raw scores."""
    margin_scale: float = Field(1.0, gt=0)
    """The student's cosine margin (at most 2) times this is compared with the teacher's margin.
    1 for relevances or cosines, about 20 for the raw logits of a cross-encoder (measured: jobs/recipes/README.md)."""
    info_nce: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of InfoNCE, the mean over the step's queries, against every passage of the step on all ranks; 0 is off."""
    temperature: float = Field(0.05, gt=0)
    """InfoNCE divides cosines by it."""
    vectors: Annotated[float, WEIGHT, LEARNS_FROM_VECTORS] = Field(0.0, ge=0)
    """Weight of the regression to a bi-encoder teacher's vectors, the mean over the step's texts; 0 is off."""
    vectors_distance: Literal["l2", "cosine"] = "l2"
    """Squared L2 distance of unit vectors, or 1 - cosine, which is half of it."""

    @model_validator(mode="after")
    def _some_term_is_on(self) -> Self:
        if not any(self.weights().values()):
            raise ValueError(f"the weights of {', '.join(self.weights())} are all 0, expected at least one above 0")
        return self

    def weights(self, mark: str = WEIGHT) -> dict[str, float]:
        """The weight of each term whose field is so marked, those that are off included."""
        return {name: getattr(self, name) for name, field in type(self).model_fields.items() if mark in field.metadata}

    def weights_on_teacher_vectors(self) -> dict[str, float]:
        """The weights of the terms that are on and learn from the teacher's vectors."""
        return {term: weight for term, weight in self.weights(LEARNS_FROM_VECTORS).items() if weight}


class BatchConfig(Config):
    """Which triplets make a step, and how many steps there are."""

    epochs: int = Field(3, ge=1)
    """How often every triplet is seen."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many steps, the learning rate decaying towards that end; None trains all epochs."""
    triplets_per_step: int = Field(128, ge=1)
    """Triplets a step on all workers together, on average: a query's triplets stay together."""
    length_window_steps: int = Field(50, ge=1)
    """Groups are sorted by length inside random windows of so many steps; 1 samples without regard to length."""
    seed: int = Field(0, ge=0)
    """Of the batch plan, and of dropout where there is any."""


class OptimizerConfig(Config):
    """What moves the weights, and how far."""

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


class EngineConfig(Config):
    """How a step is computed: changes speed, memory and last bits, not what is learnt."""

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


class ChoiceConfig(Config):
    """Which step's student is taken: the last one's, or the best by nDCG@10 on the dev split."""

    dev_every_steps: int | None = Field(None, ge=1)
    """Measure nDCG@10 on a sample of the dev split after every so many steps and after the last one, and take the best
    student, the first of equals; None takes the last one. Needs curate.dev_share."""
    dev_queries: int = Field(300, ge=1)
    """Most dev queries that are asked."""
    dev_passages: int = Field(5_000, ge=1)
    """Most passages that they are asked of: the relevant ones, the queries' negatives, then others by their ids. With
    dev_queries it bounds what an evaluation embeds, and so its time."""
    dev_dimensions: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1)
    """The best has the highest mean of nDCG@10 over these dimensions. None is all of `dimensions`: the loss is their
    sum, and the student is published to be cut to any of them."""
    early_stop_after: int | None = Field(None, ge=1)
    """Stop after so many dev evaluations in a row without a better one; None trains all steps."""

    @model_validator(mode="after")
    def _stops_by_what_is_measured(self) -> Self:
        if self.early_stop_after and not self.dev_every_steps:
            raise ValueError("early_stop_after counts dev evaluations, and there are none: set dev_every_steps")
        return self


class TrainingConfig(ChoiceConfig, EngineConfig, OptimizerConfig, BatchConfig, ObjectiveConfig):
    """How the student is trained; the defaults are the guide's."""

    def choosing_dimensions(self) -> tuple[int, ...]:
        """The dimensions over which a student's nDCG@10 is averaged, to find the best one."""
        return self.dev_dimensions or self.dimensions


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
    query_prompt: str | None = None
    """Put before every query, in training and by the model's own encode_query; None is the source's own, if any."""
    passage_prompt: str | None = None
    """Put before every passage, in training and by the model's own encode_document; None is the source's own."""
    vectors_teacher: str | None = None
    """Whose vectors to regress to; None is the curation's teacher if it has vectors, else the only one that has."""
    num_workers: int = Field(1, ge=1)
    """Ray Train workers, one GPU each if there are GPUs. Another number gives other last bits."""
    use_gpu: Literal["auto"] | bool = "auto"
    """auto: on GPUs if the cluster has any."""
    max_failures: int = Field(3, ge=0)
    """How often training goes on from the last checkpoint after a worker fails; preemptions don't count."""
    sink: str | None = None
    """Who hears of every step beside metrics.jsonl and TensorBoard's files: "mlflow", or module:Class, a subclass of
    Sink of students/training/sinks.py. It changes no weight, and no run's identity."""

    @model_validator(mode="after")
    def _chooses_by_what_is_trained(self) -> Self:
        if unknown := set(self.dev_dimensions or ()) - set(self.dimensions):
            raise ValueError(f"dev_dimensions has {sorted(unknown)}, expected some of dimensions {self.dimensions}")
        return self

    def identity(self) -> dict[str, Any]:
        """What tells a run's config from another's, as JSON: all of it but who hears of the training."""
        return self.model_dump(mode="json", exclude={"sink"})

    def claims(self) -> dict[str, Any]:
        """What training claims of a machine at once, as jobs/cluster.py asks about it."""
        use_gpu = None if self.use_gpu == "auto" else self.use_gpu
        return {"cpus": self.num_workers, "use_gpu": use_gpu, "claimed_by": "distill.num_workers"}
