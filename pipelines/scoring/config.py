"""Every number of a scoring run: the teacher, its stream, the check of its engine. Imports neither torch nor ray."""

from pydantic import Field

from pipelines.streaming.config import StreamConfig
from pipelines.teachers.config import TeacherConfig


class ScoreConfig(StreamConfig, TeacherConfig):
    """The teacher and how the work is spread. Stored with every version it produced."""

    engine_check_pairs: int = Field(1_000, ge=0)
    """On libraries or hardware new to this teacher's scores, so many existing triplets are scored again first."""

    engine_tolerance: float = Field(1e-4, gt=0)
    """Largest difference between existing and new score that the check lets pass, in the score's own units."""
