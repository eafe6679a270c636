"""Which teacher a recipe names, and how to get it: its config, its name without loading it, and the teacher itself."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from pipelines.checkpoints.find import find
from pipelines.checkpoints.inspect import (
    Prompts,
    check_checkpoint,
    check_model_type,
    check_outputs,
    encoder_config,
    longest_input,
    own_prompts,
)
from pipelines.checkpoints.name import file_digests, name_of, weights_sha256
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from pipelines.teachers.teacher import Teacher


class Kind(NamedTuple):
    """A kind of teacher, whose module in this package is called like the kind."""

    teacher: str  # the Teacher of that module
    library: Literal["transformers", "sentence_transformers"]
    model: str  # the library's class that loads the folder
    unit: Literal["logits", "cosines"]  # of its scores


KINDS = {
    "cross_encoder": Kind("CrossEncoderTeacher", "transformers", "AutoModelForSequenceClassification", "logits"),
    "bi_encoder": Kind("BiEncoderTeacher", "sentence_transformers", "SentenceTransformer", "cosines"),
}

DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What torch calls each precision. Recipes may say so too, and a teacher's hex is made of it: it must not change."""


def _precision(value: Any) -> Any:
    """A precision by torch's name as well, as recipes and commits had it in the field `dtype`."""
    return next((precision for precision, dtype in DTYPES.items() if dtype == value), value)


Precision = Annotated[Literal["auto", "float32", "bf16", "fp16"], BeforeValidator(_precision)]
PRECISION_NAMES = AliasChoices("precision", "dtype")


class TeacherConfig(Config):
    """Which teacher, and what its scores mean."""

    teacher: str = "BAAI/bge-reranker-v2-m3"
    """A folder, `s3://bucket/folder`, `package:NAME` (a Python package that carries a model) or a hub id."""
    teacher_kind: Literal[*KINDS] = "cross_encoder"  # type: ignore[valid-type]  # the table's keys
    """cross_encoder: raw logit, sigmoid relevance. bi_encoder: cosine, relevance (1 + cosine) / 2."""
    teacher_revision: str | None = None
    """Branch, tag or commit of a hub id; None is its newest."""
    teacher_sha256: str | None = None
    """sha256 that the weights must have; None accepts any."""
    query_prompt: str | None = None
    """Put before each query; None is the model's own prompt, if it has one."""
    passage_prompt: str | None = None
    """Put before each passage; None is the model's own prompt, if it has one."""
    max_tokens: int = Field(512, ge=8)
    """Longest input of the teacher, in tokens; what is cut is counted."""
    precision: Precision = Field("float32", validation_alias=PRECISION_NAMES)
    """What the teacher computes in; it must be known before there is a teacher."""
    batch_tokens: int | None = Field(None, ge=1)
    """Tokens of a batch, padding included; None is 2,048 on a CPU (more would lose the caches), 131,072 on a GPU."""
    compiled: bool = True
    """On a GPU, where nothing is padded: fuse what stands between the products of the encoder's layers (torch.compile,
    ten seconds at the start, needs a C compiler). Scores differ by rounding."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you have read it."""

    @model_validator(mode="before")
    @classmethod
    def _last_name_counts(cls, values: Any) -> Any:
        """`--set` with one name of the precision overrides a recipe that has the other."""
        if not isinstance(values, dict):
            return values  # what is expected is told by its fields
        names = [name for name in values if name in ("precision", "dtype")]
        return {name: value for name, value in values.items() if name not in names[:-1]}

    @classmethod
    def part_of(cls, stored: dict[str, object]) -> "TeacherConfig":
        """The teacher's part of a stored score config."""
        return cls.model_validate({name: stored[name] for name in (*cls.model_fields, "dtype") if name in stored})

    def choices(self) -> list[Self]:
        """What it is once the precision is known: bf16 or float32 where that is "auto", else itself."""
        taken = ("bf16", "float32") if self.precision == "auto" else (self.precision,)
        return [self.model_copy(update={"precision": precision}) for precision in taken]

    def meaning(self) -> dict[str, Any]:
        """What of it a score depends on, beside the teacher's files: equal for equal teachers."""
        return self.model_dump(exclude={"teacher_sha256", "batch_tokens", "compiled", "trust_remote_code"})


def name_teacher(config: TeacherConfig) -> str:
    """The teacher's `name@12hex`, from its files; its precision must be known (`choices`).

    Raises:
        UserError: no teacher can be loaded from these files.
    """
    folder = find(config.teacher, config.teacher_revision)
    check_folder(folder, config)
    if KINDS[config.teacher_kind].model == "AutoModelForSequenceClassification":
        check_outputs(folder, runs_own_code=config.trust_remote_code)
    else:
        check_model_type(folder)
    check_length(folder, config, longest_input(encoder_config(folder)))  # as far as the files say
    if config.teacher_sha256 is not None and (found := weights_sha256(folder)) != config.teacher_sha256:
        raise UserError(
            f"teacher {config.teacher}: its weights have sha256 {found}, the recipe expects {config.teacher_sha256}; "
            f"get the right weights, or set score.teacher_sha256 to these"
        )
    return teacher_name(folder, config)


def check_length(folder: Path, config: TeacherConfig, longest: int | None) -> None:
    """Refuse to read more tokens than the `longest` that the teacher has positions for, where that is known."""
    if longest is not None and config.max_tokens > longest:
        raise UserError(
            f"max_tokens is {config.max_tokens}, but {folder} reads at most {longest} tokens; set score.max_tokens to "
            "that or less"
        )


def check_folder(folder: Path, config: TeacherConfig) -> None:
    """Refuse a folder that this kind of teacher cannot be loaded from."""
    kind = KINDS[config.teacher_kind]
    check_checkpoint(folder, f"{kind.library} import {kind.model}")


def teacher_name(folder: Path, config: TeacherConfig) -> str:
    """`all-MiniLM-L6-v2@3f9a01c2d4e5`: the hex covers everything that a score depends on, not the engine.

    Weights, configs and tokenizer, prompts, maximum length, precision and kind of teacher.
    """
    if config.precision == "auto":
        raise ValueError(
            "the teacher's precision is auto, expected one that is settled (pipelines/scoring/precision.py)"
        )
    meaning = {
        "kind": config.teacher_kind,
        "files": file_digests(folder),
        "prompts": prompts_of(folder, config),
        "max_tokens": config.max_tokens,
        "dtype": DTYPES[config.precision],
    }
    return name_of(folder, hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest())


def prompts_of(folder: Path, config: TeacherConfig) -> Prompts:
    """The prompts as given; where None, a sentence-transformers model's own."""
    is_saved_with_prompts = KINDS[config.teacher_kind].library == "sentence_transformers"
    own = own_prompts(folder) if is_saved_with_prompts else Prompts("", "")
    return Prompts(
        own.query if config.query_prompt is None else config.query_prompt,
        own.passage if config.passage_prompt is None else config.passage_prompt,
    )


def load_teacher(config: TeacherConfig, device: str | None = None) -> "Teacher":
    """The teacher on a device ("cpu", "cuda"; None is the GPU where there is one)."""
    module = importlib.import_module(f"pipelines.teachers.{config.teacher_kind}")  # torch: its name is known without
    teacher: type[Teacher] = getattr(module, KINDS[config.teacher_kind].teacher)
    return teacher(find(config.teacher, config.teacher_revision), config, device)
