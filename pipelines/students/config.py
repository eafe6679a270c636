"""Every number of a distillation: which student, of how many training stages, and what a run records; without torch.

What each stage learns, and how, is training_config.py.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
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

from pipelines.students.training_config import EngineConfig, TrainingConfig

LayerPick = Literal["uniform", "uniform_with_last", "first", "last"]
OF_THE_WHOLE_MODEL = ("dimensions", "dropout")
"""Of TrainingConfig, what the student's own config.json states: no stage can have another."""


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
    """Who hears of every step beside metrics.jsonl and TensorBoard's files: "mlflow", "wandb" (offline), or
    module:Class, a subclass of Sink of students/training/sinks.py. It changes no weight, and no run's identity."""

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
        return cls.model_validate({"unpadded": False, "compiled": False} | recorded).settled(
            "bf16" if on_gpu else "float32", None
        )

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
