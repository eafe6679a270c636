"""Which teacher a recipe names, and how to get it: its config, its name without loading it, and the teacher itself."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipelines.checkpoints.find import resolve
from pipelines.checkpoints.inspect import check_checkpoint, check_outputs, teacher_name, weights_sha256
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from pipelines.teachers.bi_encoder import BiEncoderTeacher
    from pipelines.teachers.cross_encoder import CrossEncoderTeacher

    Teacher = CrossEncoderTeacher | BiEncoderTeacher

LOADERS = {
    "cross_encoder": "transformers import AutoModelForSequenceClassification",
    "bi_encoder": "sentence_transformers import SentenceTransformer",
}


class TeacherConfig(Config):
    """Which teacher, and what its scores mean."""

    teacher: str = "BAAI/bge-reranker-v2-m3"
    """A folder, `s3://bucket/folder`, `package:NAME` (a Python package that carries a model) or a hub id."""

    teacher_kind: Literal["cross_encoder", "bi_encoder"] = "cross_encoder"
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

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the teacher computes in."""

    batch_tokens: int | None = Field(None, ge=1)
    """Tokens of a batch, padding included; None is 2,048 on a CPU (more would lose the caches), 65,536 on a GPU."""

    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you have read it."""

    @classmethod
    def part_of(cls, stored: dict[str, object]) -> "TeacherConfig":
        """The teacher's part of a stored score config."""
        return cls.model_validate({name: stored[name] for name in cls.model_fields if name in stored})


def name_teacher(config: TeacherConfig) -> str:
    """The teacher's `name@12hex`, from its files. Raises UserError when no teacher can be loaded from them."""
    folder = resolve(config.teacher, config.teacher_revision)
    check_checkpoint(folder, LOADERS[config.teacher_kind])
    if config.teacher_kind == "cross_encoder":
        check_outputs(folder)
    if config.teacher_sha256 is not None and (found := weights_sha256(folder)) != config.teacher_sha256:
        raise UserError(
            f"teacher {config.teacher}: its weights have sha256 {found}, the recipe expects {config.teacher_sha256}; "
            f"get the right weights, or set score.teacher_sha256 to these"
        )
    return teacher_name(
        folder,
        config.teacher_kind,
        max_tokens=config.max_tokens,
        query_prompt=config.query_prompt,
        passage_prompt=config.passage_prompt,
        dtype=config.dtype,
    )


def load_teacher(config: TeacherConfig, device: str | None = None) -> "Teacher":
    """The teacher on a device ("cpu", "cuda"; None is the GPU where there is one)."""
    from pipelines.teachers.bi_encoder import BiEncoderTeacher
    from pipelines.teachers.cross_encoder import CrossEncoderTeacher

    teacher_class: type[CrossEncoderTeacher] | type[BiEncoderTeacher] = CrossEncoderTeacher
    if config.teacher_kind == "bi_encoder":
        teacher_class = BiEncoderTeacher
    return teacher_class(
        resolve(config.teacher, config.teacher_revision),
        max_tokens=config.max_tokens,
        query_prompt=config.query_prompt,
        passage_prompt=config.passage_prompt,
        dtype=config.dtype,
        device=device,
        batch_tokens=config.batch_tokens,
        trust_remote_code=config.trust_remote_code,
    )
