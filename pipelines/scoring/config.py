"""Every number of a scoring run: the teacher, its stream, the check of its engine. Imports neither torch nor ray."""

from pydantic import Field

from pipelines.streaming.config import StreamConfig
from pipelines.teachers.config import PRECISION_NAMES, Precision, TeacherConfig


class ScoreConfig(StreamConfig, TeacherConfig):
    """The teacher and how the work is spread. Stored with every version it produced."""

    precision: Precision = Field("auto", validation_alias=PRECISION_NAMES)
    """What the teacher computes in. auto: what it has scored with in this root; else bf16 on a GPU, and on a CPU that
    was measured faster with it; else float32."""

    varied_copies: int = Field(0, ge=0)
    """By `score --vectors --varied`, so many copies of each passage in training get vectors, too: the passage or a
    piece of it, with some words replaced by others. `run` does that where a training stage learns from texts."""

    engine_check_pairs: int = Field(1_000, ge=0)
    """On libraries or hardware new to this teacher's scores, so many existing triplets are scored again first."""

    engine_tolerance: float = Field(1e-4, gt=0)
    """Largest difference between existing and new score that the check lets pass, in the score's own units."""
