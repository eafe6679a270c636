"""The bi-encoder that negatives are mined with: each query and passage of some pairs gets its vector once."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.encoding import encode
from pipelines.scoring.precision import settled
from pipelines.scoring.streams import PairTextStream, staged
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import IngestedFile
from pipelines.teachers.config import name_teacher

if TYPE_CHECKING:
    from pipelines.teachers.bi_encoder import TextKind

TEXTS_AT_ONCE = 10_000


class PairEncoder(NamedTuple):
    """Which one, and how it gets to work."""

    tables: Tables
    config: ScoreConfig
    name: str
    command: str  # goes on where a kill stopped the encoding
    connect: Callable[[], None]  # to Ray

    @classmethod
    def of(cls, tables: Tables, config: ScoreConfig, command: str, connect: Callable[[], None]) -> "PairEncoder":
        """With its precision settled, and so its name. Raises UserError: it cannot be loaded, or nothing be written."""
        tables.check_writable("teacher_vectors")
        config = settled(config, tables, connect)
        return cls(tables, config, name_teacher(config), command, connect)

    def encode(
        self, queries: Iterable[str], passages: Iterable[str], files: Iterable[IngestedFile]
    ) -> TableVersion | None:
        """The newest teacher_vectors once these texts, of these files, have theirs; None where there is not one."""
        with staged(self.tables, _batches(queries, passages), files=files) as texts:
            return encode(PairTextStream(texts, self.config, self.name, self.command), self.connect)


def _batches(queries: Iterable[str], passages: Iterable[str]) -> "Iterator[tuple[TextKind, list[str]]]":
    kinds: list[tuple[TextKind, Iterator[str]]] = [("query", iter(queries)), ("passage", iter(passages))]
    for kind, texts in kinds:
        while some := list(islice(texts, TEXTS_AT_ONCE)):
            yield kind, some
