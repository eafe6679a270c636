"""Every number of a distillation: what the student learns, how, and which student; read without torch.

Each part sees its own: the losses (objective/), the loop (torch only), and the stage (Ray, folders).
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipelines.stage.config import Config

LayerPick = Literal["uniform", "uniform_with_last", "first", "last"]
OF_THE_WHOLE_MODEL = ("dimensions", "dropout")
"""Of TrainingConfig, what the student's own config.json states: no stage can have another."""
WEIGHT, LEARNS_FROM_VECTORS = "a term's weight", "on, it needs the teacher's vectors"  # marks of fields
WITHOUT_TRIPLETS = {"vectors", "spread_out"}  # the terms that plain texts suffice for


def _number_or_fitted(above: float, expected: str) -> BeforeValidator:
    """One error where a union's members would each have their own."""

    def check(value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf
        if value != "fitted" and not is_number:
            raise ValueError(f"expected {expected}, or 'fitted'")
        return value

    return BeforeValidator(check)


Scale = Annotated[float | Literal["fitted"], _number_or_fitted(0, "a number above 0")]
Offset = Annotated[float | Literal["fitted"], _number_or_fitted(-math.inf, "a number")]


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
    margin_scale: Scale = 1.0
    """The student's cosine margin (at most 2) times this is compared with the teacher's margin.
    1 for relevances or cosines, about 20 for the raw logits of a cross-encoder (measured: jobs/recipes/README.md);
    "fitted": where the margins of the first steps are as large as the teacher's, and trained from there."""
    info_nce: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of InfoNCE, the mean over the step's queries, against every passage of the step on all ranks; 0 is off."""
    temperature: float = Field(0.05, gt=0)
    """InfoNCE divides cosines by it."""
    info_nce_false_negative_share: Annotated[float, LEARNS_FROM_VECTORS] = Field(0.0, ge=0)
    """InfoNCE leaves out each passage of the step whose cosine with the query, by the teacher's vectors, is above this
    share of the positive's: it is taken for a false negative. 0.95 is NV-Retriever's, 1 GISTEmbed's; 0 is off."""
    info_nce_false_negative_margin: float = Field(0.0, ge=0)
    """What is taken off that share of the positive's cosine, too: a share of 1 and a margin of 0.05 leave out what
    comes within 0.05 of the positive, or above it."""
    vectors: Annotated[float, WEIGHT, LEARNS_FROM_VECTORS] = Field(0.0, ge=0)
    """Weight of the regression to a bi-encoder teacher's vectors, the mean over the step's texts; 0 is off."""
    vectors_distance: Literal["l2", "cosine"] = "l2"
    """Squared L2 distance of unit vectors, or 1 - cosine, which is half of it."""
    vectors_axes: Literal["teacher", "principal"] = "teacher"
    """teacher: the teacher's vectors as they are. principal: turned to their principal axes, those along which they
    differ most first, and cut to the student's width, so that a cut embedding keeps the most that it can; the student
    learns to turn by its dense head."""
    vectors_projection: bool = False
    """Compare the teacher's vector with a linear projection of the student's embedding, at each dimension with all of
    the teacher's vector: needed where the teacher is of another width. It is trained, and kept beside the model."""
    kl: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of the listwise KL(teacher || student) over each query's candidates, the mean over the step's queries
    with two or more; 0 is off."""
    kl_target: Literal["relevance", "score"] = "relevance"
    """What of the teacher's is divided by its temperature: its relevance (0..1), or its raw score."""
    kl_student_temperature: float = Field(0.05, gt=0)
    """The student's cosines are divided by it, as InfoNCE's are by `temperature`."""
    kl_teacher_temperature: float = Field(0.05, gt=0)
    """Of a query's candidates, those that the teacher rates several times this below its best hardly count: 0.05 for
    relevances and for a bi-encoder's scores (cosines), about 1 for a cross-encoder's (logits)."""
    pointwise: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of the squared error of each candidate's cosine against what the teacher says of it, the mean over the
    step's candidates; 0 is off."""
    pointwise_target: Literal["relevance", "score"] = "relevance"
    """What the teacher says of a candidate: its relevance (0..1), or its raw score."""
    pointwise_scale: Scale = 1.0
    """The student's cosine times this, plus `pointwise_offset`, is compared with the target; "fitted" as
    `margin_scale`. A bi-encoder's relevance is (1 + cosine) / 2, so scale and offset 0.5 make its own cosine exact."""
    pointwise_offset: Offset = 0.0
    """Added to the scaled cosine; "fitted": where the first steps' mean is the teacher's, and trained from there."""
    spread_out: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of the spread-out regulariser: how far the mean squared cosine of different queries of the step, and that
    of different passages, is above that of random directions; 0 is off."""

    @model_validator(mode="after")
    def _some_term_is_on(self) -> Self:
        if not any(self.weights().values()):
            raise ValueError(f"the weights of {', '.join(self.weights())} are all 0, expected at least one above 0")
        if self.vectors_projection and self.vectors_axes == "principal":
            raise ValueError("vectors_projection is true and vectors_axes is principal, expected at most one of them")
        if self.info_nce_false_negative_margin and not self.info_nce_false_negative_share:
            raise ValueError(
                f"info_nce_false_negative_margin is {self.info_nce_false_negative_margin}, but without "
                "info_nce_false_negative_share nothing is left out: set that to 1, or the margin to 0"
            )
        return self

    def weights(self, mark: str = WEIGHT) -> dict[str, float]:
        """The value of each field that is so marked, those that are off (0) included."""
        return {name: getattr(self, name) for name, field in type(self).model_fields.items() if mark in field.metadata}

    def weights_on_teacher_vectors(self) -> dict[str, float]:
        """The fields for which the teacher's vectors are needed, each off at 0: a term's weight, or part of a term."""
        needed = {name: value for name, value in self.weights(LEARNS_FROM_VECTORS).items() if value}
        if not self.info_nce:
            needed.pop("info_nce_false_negative_share", None)
        return needed


class BatchConfig(Config):
    """Which triplets, or plain texts, make a step, and how many steps there are."""

    data: Literal["triplets", "texts"] = "triplets"
    """texts: every text that has a vector of the wanted teacher, those of `score --vectors --texts` included; without
    triplets, so only terms that need none may be on. What is said of triplets and candidates below is then idle."""
    where: str | None = None
    """A condition over the rows of curated_triplets, in SQL, like "source = 'faq' AND teacher_margin > 1": the others
    are left out. Of data = "texts" it filters the triplets whose texts are taken."""
    source_weights: dict[str, Annotated[float, Field(ge=0)]] = Field({})
    """How often an epoch sees each query of a source, in expectation; 1 where none is given, 0 leaves it out. A query
    that several sources have is of the source of its first triplet, by id. It is never twice in one step, so a weight
    above 1 makes several passes of an epoch."""
    candidates_per_query: int | None = Field(None, ge=2)
    """So many of a query's candidates are drawn for it, each epoch anew: its positives, and at least one other; None
    takes all. Triplets whose negative is not drawn are left out of that step."""
    candidates: Literal["stratified", "hardest", "random"] = "stratified"
    """Which candidates: one of each of as many equal parts of the query's candidates in the order of their scores (so
    the whole range), those with the highest scores, or any."""
    candidates_from: Literal["curated", "scored"] = "curated"
    """A query's candidates: the passages of its curated rows; or also those of the rows that the curation dropped or
    corrected, which have the same teacher's scores."""
    epochs: int = Field(3, ge=1)
    """How often every triplet, or text, is seen."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many steps, the learning rate decaying towards that end; None trains all epochs."""
    triplets_per_step: int = Field(128, ge=1)
    """Triplets a step on all workers together, on average: a query's triplets stay together."""
    texts_per_step: int = Field(256, ge=1)
    """Texts a step on all workers together, where data = "texts"."""
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
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon moves the matrices of layers and heads, AdamW all else. Its steps are scaled to the size of AdamW's
    (0.2 sqrt(the longer side)), so learning_rate and weight_decay mean the same to both."""
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
    """Of the encoder's arithmetic; weights and losses stay float32. auto: bf16 on a GPU, and on a CPU that has
    instructions for it and was measured faster with them, else float32. A run keeps what it began with."""
    unpadded: bool = True
    """Call the encoder on texts laid end to end, without padding between them, where the family, the pooling and
    `dropout` allow it."""
    tokens_per_forward: int | None = Field(None, ge=1)
    """Tokens of one sub-forward, padding included; None: on a GPU 32,768, on a CPU 4,096 if unpadded and nothing is
    recomputed, else 1,024."""
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

    @model_validator(mode="after")
    def _texts_need_no_triplets(self) -> Self:
        on = [term for term, weight in self.weights().items() if weight]
        if self.data == "texts" and (not self.vectors or set(on) - WITHOUT_TRIPLETS):
            raise ValueError(
                f"data is 'texts', which have no triplets, and the terms {', '.join(on)} are on; expected vectors, and "
                f"of the others at most {', '.join(sorted(WITHOUT_TRIPLETS - {'vectors'}))}: set the others to 0"
            )
        return self

    @model_validator(mode="after")
    def _chooses_by_what_is_trained(self) -> Self:
        if unknown := set(self.dev_dimensions or ()) - set(self.dimensions):
            raise ValueError(f"dev_dimensions has {sorted(unknown)}, expected some of dimensions {self.dimensions}")
        return self

    def choosing_dimensions(self) -> tuple[int, ...]:
        """The dimensions over which a student's nDCG@10 is averaged, to find the best one."""
        return self.dev_dimensions or self.dimensions


class StageConfig(TrainingConfig):
    """One of several training stages: a name, its data, and what differs from [distill]'s own fields.

    Only fields in `model_fields_set` count, and are written; the others have the value that [distill] had.
    """

    name: str = Field(pattern=r"^[^\W\d][\w-]*$", max_length=100)
    """What progress, metrics and the model's record call it; stage_1, stage_2, ... if not given."""
    curated_version: int | None = Field(None, ge=0)
    """Another version of curated_triplets under the same root; None is the one that is trained on (`--from`)."""

    @classmethod
    def field_names(cls) -> list[str]:
        return [name for name in cls.model_fields if name not in OF_THE_WHOLE_MODEL]

    @model_serializer(mode="wrap")
    def _what_differs(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


class DistillConfig(TrainingConfig):
    """Which student, and how it is trained. Stored with the model, and part of the run's identity."""

    source_model: str = "answerdotai/ModernBERT-base"
    """Hub id or folder of the encoder whose layers the student takes."""
    num_layers: int = Field(6, ge=1)
    """Layers of the student."""
    layers: LayerPick | tuple[int, ...] = "uniform"
    """Which layers of the source: uniform (0, 4, 8, 12, 16, 20 of 22), uniform_with_last, first, last, or a list."""
    width: int | None = Field(None, ge=2)
    """Width of the student's vectors: a multiple of the size of the source's heads below the source's own width, which
    None keeps. See students/narrow.py: a much worse start, and a model of about the square of the share in cost."""
    head: Literal["mean", "dense"] = "mean"
    """mean: the mean of a text's token vectors. dense: and a linear layer on it, published with the model, which begins
    as the identity; with `vectors_axes` principal as the rotation to the teacher's axes (orthogonal Procrustes)."""
    max_tokens: int = Field(512, ge=2)
    """Longer texts are cut, special tokens included; how many is in run.json."""
    query_prompt: str | None = None
    """Put before every query, in training and by the model's own encode_query; None is the source's own, if any."""
    passage_prompt: str | None = None
    """Put before every passage, in training and by the model's own encode_document; None is the source's own."""
    vectors_teacher: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Whose vectors to regress to; None is the curation's teacher if it has vectors, else the only one that has. Of
    several, a list, each text's vectors stand side by side: cosines are then the mean of theirs."""
    num_workers: int = Field(1, ge=1)
    """Ray Train workers, one GPU each if there are GPUs. Another number gives other last bits."""
    use_gpu: Literal["auto"] | bool = "auto"
    """auto: on GPUs if the cluster has any."""
    max_failures: int = Field(3, ge=0)
    """How often training goes on from the last checkpoint after a worker fails; preemptions don't count."""
    sink: str | None = None
    """Who hears of every step beside metrics.jsonl and TensorBoard's files: "mlflow", or module:Class, a subclass of
    Sink of students/training/sinks.py. It changes no weight, and no run's identity."""

    stages: tuple[StageConfig, ...] = ()
    """Training stages, one after the other, each from the student that the one before has trained: `[[distill.stages]]`
    tables with only the fields that differ from those here. None is a single stage."""

    @model_validator(mode="after")
    def _some_term_is_on(self) -> Self:
        if not self.stages:  # each of them has its own
            super()._some_term_is_on()  # type: ignore[operator]  # it is a method again when its class is made
        return self

    @field_validator("stages", mode="wrap")
    @classmethod
    def _complete_each(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> tuple[StageConfig, ...]:
        """Each stage is checked whole, as [distill]'s own fields complete it; only what differs from them is kept."""
        own = {name: info.data[name] for name in TrainingConfig.model_fields if name in info.data}
        given = [_given(stage) for stage in value] if isinstance(value, list | tuple) else value
        if wrong := list(_of_the_whole_model(given)):
            raise ValidationError.from_exception_data("stages", wrong)
        whole = [{"name": f"stage_{number}", **own, **stage} if isinstance(stage, dict) else stage
                 for number, stage in enumerate(given, 1)] if isinstance(given, list) else given  # fmt: skip
        stages: tuple[StageConfig, ...] = handler(whole)
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ValueError(f"the stages are called {', '.join(names)}, expected a name of its own for each")
        return tuple(_differing(stage, own) for stage in stages)

    @model_serializer(mode="wrap")
    def _stages_only_if_any(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        if not self.stages:
            dumped.pop("stages", None)  # what was recorded before there were stages says the same
        return dumped

    def identity(self) -> dict[str, Any]:
        """What tells a run's config from another's, as JSON: all of it but who hears of the training."""
        return self.model_dump(mode="json", exclude={"sink"})

    def training_stages(self) -> list["DistillConfig"]:
        """The config of each training stage as if it were the only one: at least one."""
        trained = [
            {name: getattr(stage, name) for name in stage.model_fields_set if name in TrainingConfig.model_fields}
            for stage in self.stages or ()
        ]
        return [self.model_copy(update={**fields, "stages": ()}) for fields in trained] or [self]

    def named_vectors_teachers(self) -> tuple[str, ...]:
        """Each once, in their order; none where the data decides."""
        named = self.vectors_teacher or ()
        return (named,) if isinstance(named, str) else tuple(dict.fromkeys(named))

    def needs_vectors(self) -> bool:
        """Whether any stage learns from the teacher's vectors."""
        return any(stage.weights_on_teacher_vectors() for stage in self.training_stages())

    @classmethod
    def of_run(cls, recorded: dict[str, Any], *, on_gpu: bool) -> Self:
        """The config in a run.json. Older ones say "auto", which was bf16 on a GPU and float32 on a CPU, and padded."""
        return cls.model_validate({"unpadded": False} | recorded).settled("bf16" if on_gpu else "float32", None)

    def settled(self, precision: str | None, unpadded: bool | None) -> Self:
        """The config with what "auto" means in its place and, unless None, with this `unpadded`, in every stage."""

        def meant(own: TrainingConfig, given: EngineConfig) -> dict[str, Any]:
            taken = precision if own.precision == "auto" else own.precision
            here = {"precision": taken, "unpadded": own.unpadded if unpadded is None else unpadded}
            return {name: value for name, value in here.items() if name in given.model_fields_set or given is self}

        whole = zip(self.stages, self.training_stages(), strict=False)
        stages = tuple(stage.model_copy(update=meant(own, stage)) for stage, own in whole)
        return self.model_copy(update={**meant(self, self), "stages": stages})

    def claims(self) -> dict[str, Any]:
        """What training claims of a machine at once, as jobs/cluster.py asks about it."""
        use_gpu = None if self.use_gpu == "auto" else self.use_gpu
        return {"cpus": self.num_workers, "use_gpu": use_gpu, "claimed_by": "distill.num_workers"}


def _given(stage: Any) -> Any:
    """What a stage was given, as a dict."""
    return {name: getattr(stage, name) for name in stage.model_fields_set} if isinstance(stage, StageConfig) else stage


def _of_the_whole_model(stages: Any) -> Iterator[InitErrorDetails]:
    """An error for each field in a stage that no stage can have of its own."""
    fields = DistillConfig.model_fields.keys() - set(StageConfig.field_names())
    for number, stage in enumerate(stages if isinstance(stages, list) else ()):
        for name in sorted(fields & stage.keys()) if isinstance(stage, dict) else ():
            told = f"is of the whole model, not of one stage; expected it as distill.{name}"
            yield InitErrorDetails(
                type=PydanticCustomError("of_the_whole_model", "{told}", {"told": told}),
                loc=(number, name),
                input=stage[name],
            )


def _differing(stage: StageConfig, own: dict[str, Any]) -> StageConfig:
    """The stage as what is its own, by which it is written and told from others."""
    values = dict(stage)
    kept = {name for name, value in values.items() if (value != own[name] if name in own else value is not None)}
    return StageConfig.model_construct(_fields_set=kept, **values)
