"""Triplets and quarantined rows on their way into the tables: on disk, in partitions by query_id, read back in order.

    add(triplet), quarantine(row)   ->   blocks() of whole queries, ascending by query_id;   quarantined()

This is the first half of an external sort: memory holds one buffer (BUFFER_BYTES of text) while rows come in and one
block (about BLOCK_BYTES, or one partition where that is larger) while they go out, however many rows there are.
A partition is one file of Arrow streams, one behind the other, under a folder that the caller makes and removes.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow

from pipelines.texts.ids import text_id, triplet_id
from schemas import QuarantinedRows, Triplets

BUFFER_BYTES = 64 << 20
BLOCK_BYTES = 64 << 20
FRAME_ROWS = 20_000
QUARANTINE_ROWS = 5_000

OF_FILE = {"source_file", "source_sha256"}  # spilled as the file's position
TRIPLET, QUARANTINED = (
    {"file": pl.UInt32(), **{name: dtype for name, dtype in table.polars_schema().items() if name not in OF_FILE}}
    for table in (Triplets, QuarantinedRows)
)


class Negative(NamedTuple):
    text: str
    miner: str = "given"
    rank: int | None = None  # the miner's
    score: float | None = None


class SpilledTriplet(NamedTuple):
    query: str
    positive: str
    negative: str
    miner: str
    rank: int | None
    miner_score: float | None
    source: str
    external_id: str | None
    file: int  # position of the input file in the order in which files were given
    source_row: int


class Spill:
    """One run's rows. Within a partition they keep the order in which they came."""

    def __init__(self, folder: Path, input_bytes: int) -> None:
        self.folder = folder
        # 16, 256 or 4,096 partitions: compressed input grows to about eight times its size
        self.digits = 1 + sum(input_bytes * 8 > 16**digits * BLOCK_BYTES for digits in (1, 2))
        self.triplets_per_file: Counter[int] = Counter()
        self._bytes_per_partition: Counter[str] = Counter()
        self._triplets: list[SpilledTriplet] = []
        self._chars = 0
        self._frames: list[pl.DataFrame] = []
        self._quarantined: list[tuple[int, int, list[str], str | None, int | None, str | None]] = []

    def add(self, triplet: SpilledTriplet) -> None:
        self._triplets.append(triplet)
        self._chars += len(triplet.query) + len(triplet.positive) + len(triplet.negative)
        if len(self._triplets) >= FRAME_ROWS or self._chars >= BUFFER_BYTES:
            self._make_frame()

    def quarantine(
        self,
        file: int,
        source_row: int,
        reasons: list[str],
        raw: str | None,
        rank: int | None,
        named_source: str | None,
    ) -> None:
        self._quarantined.append((file, source_row, reasons, raw, rank, named_source))
        if len(self._quarantined) >= QUARANTINE_ROWS:
            self._flush_quarantined()

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Every triplet once, in frames of whole queries that ascend by query_id; rows in the order they came."""
        self._make_frame()
        self._flush()
        together: list[str] = []
        for partition in sorted(self._bytes_per_partition):
            if together and sum(self._bytes_per_partition[name] for name in [*together, partition]) > BLOCK_BYTES:
                yield self._read(together)
                together = []
            together.append(partition)
        if together:
            yield self._read(together)

    def quarantined(self) -> Iterator[pl.DataFrame]:
        """Every quarantined row once, in the order they came."""
        self._flush_quarantined()
        yield from map(pl.DataFrame, _tables_of(self.folder / "quarantined"))

    def _make_frame(self) -> None:
        if not self._triplets:
            return
        self._frames.append(triplets_with_ids(self._triplets))
        self.triplets_per_file.update(triplet.file for triplet in self._triplets)
        self._triplets, self._chars = [], 0
        if sum(frame.estimated_size() for frame in self._frames) >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._frames:
            return
        buffered = pl.concat(self._frames).with_columns(partition=pl.col("query_id").str.head(self.digits))
        self._frames = []
        for (name,), rows in buffered.partition_by("partition", as_dict=True, include_key=False).items():
            self._bytes_per_partition[name] += int(rows.estimated_size())
            _append_stream(self.folder / name, rows)

    def _flush_quarantined(self) -> None:
        if self._quarantined:
            rows = pl.DataFrame(self._quarantined, schema=QUARANTINED, orient="row")
            _append_stream(self.folder / "quarantined", rows)
            self._quarantined = []

    def _read(self, partitions: list[str]) -> pl.DataFrame:
        tables = (table for name in partitions for table in _tables_of(self.folder / name))
        return pl.DataFrame(pyarrow.concat_tables(tables))


def triplets_with_ids(triplets: list[SpilledTriplet]) -> pl.DataFrame:
    """A frame of TRIPLET; each distinct text is hashed once."""
    columns = dict(zip(SpilledTriplet._fields, map(list, zip(*triplets, strict=True)), strict=True))
    id_of = {text: text_id(text) for text in {*columns["query"], *columns["positive"], *columns["negative"]}}
    ids = {f"{role}_id": [id_of[text] for text in columns[role]] for role in ("query", "positive", "negative")}
    triplet_ids = list(map(triplet_id, ids["query_id"], ids["positive_id"], ids["negative_id"]))
    return pl.DataFrame({"triplet_id": triplet_ids, **ids, **columns}, schema=TRIPLET)


def _append_stream(path: Path, frame: pl.DataFrame) -> None:
    with path.open("ab") as file:
        frame.write_ipc_stream(file, compression="uncompressed")  # lz4 cost a tenth of ingest's time


def _tables_of(path: Path) -> Iterator[pyarrow.Table]:
    if not path.exists():
        return
    size = path.stat().st_size
    options = pyarrow.ipc.IpcReadOptions(use_threads=False)  # streams are small: threads would cost more than they gain
    with pyarrow.OSFile(str(path)) as file:
        while file.tell() < size:
            yield pyarrow.ipc.open_stream(file, options=options).read_all()
