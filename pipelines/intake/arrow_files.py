"""Arrow IPC files and streams as batches of raw rows: .arrow, .feather, and what datasets.save_to_disk writes.

A file is mapped, not read, so that one large record batch does not have to fit into memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow

from pipelines.intake.raw_rows import BATCH_BYTES, BATCH_ROWS, RawRow, record_rows
from pipelines.stage.errors import UserError

FILE, STREAM, FEATHER_1 = b"ARRO", b"\xff\xff\xff\xff", b"FEA1"
MAGIC = {FILE, STREAM, FEATHER_1}
"""First four bytes; a stream's are those of its first message."""

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def arrow_columns(path: str) -> tuple[str, ...]:
    """The columns' names. Raises UserError for a file that is not whole or of another version."""
    with Path(path).open("rb") as file:
        magic = file.read(4)
        file.seek(max(0, Path(path).stat().st_size - len(END_OF_STREAM)))
        end = file.read()
    if magic == FEATHER_1:
        raise UserError(f"{path} is Feather version 1, expected version 2: write it again with a current library")
    if magic == STREAM and end != END_OF_STREAM:
        raise UserError(
            f"{path} is an Arrow stream without its end, expected a whole one: whoever wrote or copied it was "
            "interrupted; fetch it or write it again"
        )
    with pyarrow.memory_map(path) as mapped:
        schema = (pyarrow.ipc.open_file(mapped) if magic == FILE else pyarrow.ipc.open_stream(mapped)).schema
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise UserError(f"{path} has two columns {', '.join(map(ascii, repeated))}, expected distinct ones: rename one")
    return tuple(schema.names)


def arrow(path: str, columns: Sequence[str] | None) -> Iterator[list[RawRow]]:
    """Batches of at most BATCH_ROWS rows, fewer where rows are large."""
    number = 1
    for batch in _record_batches(path, columns):
        rows = max(16, min(BATCH_ROWS, BATCH_BYTES * batch.num_rows // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, rows):
            part = batch.slice(start, rows)
            _check(part)
            yield record_rows(part, number)
            number += part.num_rows


def _check(batch: pyarrow.RecordBatch) -> None:
    """Raise ArrowInvalid for damage, which nothing else would see; text that is not UTF-8 is a matter of its row."""
    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise


def _record_batches(path: str, columns: Sequence[str] | None) -> Iterator[pyarrow.RecordBatch]:
    names = arrow_columns(path)
    wanted = None if columns is None else [names.index(name) for name in columns if name in names]
    options = pyarrow.ipc.IpcReadOptions(included_fields=wanted or None, use_threads=False)
    with pyarrow.memory_map(path) as mapped:
        is_file = mapped.read(4) == FILE
        mapped.seek(0)
        if is_file:
            file = pyarrow.ipc.open_file(mapped, options=options)
            yield from map(file.get_batch, range(file.num_record_batches))
        else:
            while mapped.tell() < mapped.size():  # streams may stand one behind the other
                yield from pyarrow.ipc.open_stream(mapped, options=options)
