"""Arrow files and streams give the rows that Parquet would; one that is not whole is refused."""

import pyarrow
import pyarrow.feather
import pytest

from pipelines.intake import arrow_files
from pipelines.intake.formats import open_file
from pipelines.stage.errors import UserError

ROWS = [
    {"query": f"q{number}", "positive": [{"title": "t", "text": "p"}], "negative": None, "n": number}
    for number in range(50)
]
TABLE = pyarrow.Table.from_pylist(ROWS)


def stream(table, batch_rows=20):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, batch_rows)
    return sink.getvalue().to_pybytes()


def file(table, compression=None):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(
        sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def feather(table):
    sink = pyarrow.BufferOutputStream()
    pyarrow.feather.write_feather(table, sink)
    return sink.getvalue().to_pybytes()


def write(tmp_path, content):
    path = tmp_path / "rows.data"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        stream(TABLE),
        stream(TABLE[:30]) + stream(TABLE[30:]),
        file(TABLE),
        file(TABLE, "lz4"),
        feather(TABLE),
        stream(TABLE.set_column(0, "query", TABLE["query"].dictionary_encode())),
        stream(TABLE.set_column(0, "query", TABLE["query"].cast(pyarrow.large_string()))),
    ],
    ids="stream two_streams file compressed feather dictionary large_string".split(),
)
def test_arrow_gives_its_rows_in_order(tmp_path, content, monkeypatch):
    monkeypatch.setattr(arrow_files, "BATCH_ROWS", 16)
    opened = open_file(write(tmp_path, content))
    batches = list(opened.batches())
    rows = [row for batch in batches for row in batch]

    assert opened.columns == ("query", "positive", "negative", "n")
    assert [row.value for row in rows] == ROWS
    assert [row.number for row in rows] == list(range(1, 51))
    assert max(map(len, batches)) <= 16
    some = [row.value for batch in opened.batches(["n", "query"]) for row in batch]
    assert some == [{"query": row["query"], "n": row["n"]} for row in ROWS]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (stream(TABLE)[:-8], "is an Arrow stream without its end"),
        (stream(TABLE)[: len(stream(TABLE)) // 2], "is an Arrow stream without its end"),
        (file(TABLE)[:-9], "cannot be read"),
        (b"FEA1" + bytes(40) + b"FEA1", "is Feather version 1"),
        (b"\xff\xff\xff\xff" + bytes(80) + b"\xff\xff\xff\xff\0\0\0\0", "cannot be read"),
        (stream(TABLE.rename_columns(["query", "negative", "negative", "n"])), "two columns 'negative'"),
    ],
)
def test_arrow_that_is_not_whole_or_says_two_things_is_refused(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        open_file(write(tmp_path, content))


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_a_damaged_record_batch_is_refused_where_it_is_met(tmp_path, compression):
    content = bytearray(file(TABLE, compression))
    middle = len(content) // 3
    content[middle : middle + 60] = bytes(range(60))

    with pytest.raises(UserError, match=r"breaks off or is damaged|cannot be read"):
        list(open_file(write(tmp_path, bytes(content))).batches())


def test_a_text_that_is_not_utf8_is_one_bad_row(tmp_path):
    texts = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
    batches = open_file(write(tmp_path, stream(pyarrow.table({"query": texts})))).batches()

    assert [(row.number, row.problem) for batch in batches for row in batch] == [(1, None), (2, "not_utf8"), (3, None)]
