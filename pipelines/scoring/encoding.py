"""Texts that came by themselves into teacher_vectors, each that has no vector yet once."""

from collections.abc import Callable

from pipelines.checkpoints.find import find
from pipelines.checkpoints.inspect import vector_width
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.streams import PlainTextStream
from pipelines.stage.disk import check_room
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.streaming.commits import drain
from pipelines.streaming.stream import Plan


def encode(texts: PlainTextStream, connect: Callable[[], None], *, dry_run: bool = False) -> TableVersion | None:
    """The newest teacher_vectors once these texts have theirs; None for a dry run, or where there is not one vector.

    Args:
        connect: connects to Ray; called if there is something to encode.
    """
    left = Plan.of(texts)
    tell(f"{left.num_total:,} texts, {left.num_done:,} of them have a vector by {texts.maker}")
    if dry_run:
        tell(f"{left.num_left:,} texts to encode; nothing was done (dry run)")
        return None
    if left.num_left:
        check_room(texts.source.tables.uri, vector_bytes(texts.config, left.num_left), texts.stage)
        connect()
        if (left := drain(left)).num_left:
            tell(f"{left.num_left:,} texts cannot be encoded: they have no vector")
    return texts.source.tables.newest("teacher_vectors")


def vector_bytes(config: ScoreConfig, num_texts: int) -> int:
    """About what the vectors of so many texts take: float32."""
    return 4 * (vector_width(find(config.teacher, config.teacher_revision)) or 0) * num_texts
