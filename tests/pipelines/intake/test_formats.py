"""Files of every known format come out as the same rows; files that cannot be read say why and what to do."""

import bz2
import gzip
import json
import lzma
import math
import re

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from pipelines.intake import raw_rows
from pipelines.intake.formats import open_file
from pipelines.stage.errors import UserError
from pipelines.texts.ids import text_id

ROWS = [
    {"query": "q1", "positive": 'a "quoted"\nline', "negative": "n,1"},
    {"query": "q2", "positive": "p", "negative": "ñ"},
]
JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = 'query,positive,negative\nq1,"a ""quoted""\nline","n,1"\nq2,p,ñ\n'.encode()


def zipped(content):
    """By gzip, without the time of day: a test's name may hold it, and two processes must name it alike."""
    return gzip.compress(content, mtime=0)


def parquet_bytes(rows, **options):
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink, **options)
    return sink.getvalue().to_pybytes()


def write(tmp_path, content, name="train.data"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def read(path, quoting=None):
    return [row for batch in open_file(path, quoting).batches() for row in batch]


@pytest.mark.parametrize(
    "content",
    [
        JSON_LINES,
        b"\xef\xbb\xbf" + JSON_LINES.replace(b"\n", b"\r\n"),
        zipped(JSON_LINES),
        zipped(JSON_LINES[:-40]) + zipped(JSON_LINES[-40:]),
        zstandard.compress(JSON_LINES),
        zstandard.compress(JSON_LINES[:-40]) + zstandard.compress(JSON_LINES[-40:]),
        CSV,
        b"\xef\xbb\xbf" + CSV,
        b"query,positive,negative\r\n" + CSV.partition(b"\n")[2].replace(b"\nq2", b"\r\nq2"),
        CSV.replace(b"n,1", b"n\t1").replace(b",", b"\t").replace(b"n\t1", b"n,1"),
        zipped(CSV),
        zstandard.compress(CSV),
        parquet_bytes(ROWS),
    ],
    ids=(
        "json_lines bom_and_crlf gzip gzip_members zstd zstd_frames csv csv_bom csv_crlf tsv csv_gzip csv_zstd parquet"
    ).split(),
)
def test_a_format_is_told_by_content_and_gives_the_same_rows(tmp_path, content):
    assert [row.value for row in read(write(tmp_path, content))] == ROWS


def test_json_lines_are_numbered_by_line_and_blank_lines_are_no_rows(tmp_path):
    path = write(tmp_path, b'\n{"a": 1}\n  \n[1]\n{"a": \n\xff{}\n"\\ud800"')

    assert [(row.number, row.value, row.problem) for row in read(path)] == [
        (2, {"a": 1}, None),
        (4, None, "not_an_object"),
        (5, None, "not_json"),
        (6, None, "not_utf8"),
        (7, None, "not_an_object"),
    ]


def test_deep_nesting_and_huge_numbers_are_bad_rows_and_not_crashes(tmp_path):
    path = write(tmp_path, b'{"a": 1}\n{"a": ' + b"[" * 100_000 + b"\n" + b'{"a": ' + b"1" * 5000 + b"}\n")

    assert [row.problem for row in read(path)] == [None, "not_json", "not_json"]


def test_csv_rows_are_numbered_below_the_header_and_an_empty_field_is_absent(tmp_path):
    path = write(tmp_path, b"\n  \nquery,positive\n\nq1,\n   \nq2,p,extra\n\xff,p\n")

    assert [(row.number, row.value, row.problem) for row in read(path)] == [
        (1, {"query": "q1", "positive": None}, None),
        (2, None, "wrong_number_of_fields"),
        (3, None, "not_utf8"),
    ]


def test_a_quote_that_is_never_closed_shows_as_every_line_it_swallowed(tmp_path):
    path = write(tmp_path, b'query,positive\nq1,p1\nq2,"open\nq3,p3\nq4,p4\n')

    assert [(row.number, row.problem) for row in read(path, "minimal")] == [
        (1, None),
        (2, "not_csv"),
        (3, "not_csv"),
        (4, "not_csv"),
    ]


def test_reading_goes_on_after_broken_quotes(tmp_path):
    path = write(tmp_path, b'query,positive\n"q1"x,p1\nq2,p2\n')

    assert [(row.value, row.problem) for row in read(path)] == [
        (None, "not_csv"),
        ({"query": "q2", "positive": "p2"}, None),
    ]


TSV = [f"q{i}\tp{i}\tn{i}" for i in range(40)]


def tsv(*replaced, delimiter="\t"):
    """A file of TSV in which some lines are replaced: (position, line)."""
    lines = ["query\tpositive\tnegative", *TSV]
    for position, line in replaced:
        lines[position] = line
    return "\n".join([*lines, ""]).replace("\t", delimiter).encode()


SWALLOWED = tsv((11, 'q10\tp10\t"said he'), (19, 'q18\tp18\tlast"'))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (SWALLOWED, "line 12 opens a quote that takes in 9 lines"),
        (zipped(SWALLOWED), "line 12 "),
        (SWALLOWED.replace(b"\n", b"\r\n"), "line 12 "),
        (SWALLOWED.decode().encode("utf-16"), "line 12 "),
        (tsv((11, 'q10\t"p10\tn'), (12, 'q11\tp"\tn'), delimiter=","), "line 12 opens a quote that takes in 2 lines"),
        (tsv((11, 'q10\tp10\t"said he'), (19, 'q18\t"p18" is\tlast')), "line 12 "),
        (tsv((31, '"q\tp\tn')), "line 32 opens a quote that takes in 10 lines"),
        (tsv((11, 'q10\tp10\t"said'), (21, "a bad line"), (29, 'q28\tp\tx"')), "line 12 "),
    ],
    ids="tsv gzip crlf utf_16 csv_two_lines broken never_closed bad_line_within".split(),
)
def test_a_quote_that_swallows_whole_rows_is_refused_unless_the_quoting_is_said(tmp_path, content, line):
    path = write(tmp_path, content)

    with pytest.raises(UserError, match=f"{line}.*--quoting none.*--quoting minimal"):
        read(path)
    assert len(read(path, "none")) == 40
    assert len(read(path, "minimal")) <= 40


@pytest.mark.parametrize("field", ['"the who"', '"why?"'])
def test_quotes_around_a_few_fields_that_need_none_are_asked_about_in_tsv_and_said_in_csv(tmp_path, capsys, field):
    asked = write(tmp_path, tsv((11, f"{field}\tp\tn")))

    with pytest.raises(UserError, match=r"1 of 40 rows, the first at line 12,.*--quoting none.*--quoting minimal"):
        read(asked)
    assert read(asked, "none")[10].value["query"] == field
    assert read(asked, "minimal")[10].value["query"] == field.strip('"')
    assert len(read(write(tmp_path, tsv((11, f"{field}\tp\tn"), delimiter=",")))) == 40
    assert "they are taken off" in capsys.readouterr().err


@pytest.mark.parametrize(
    "lines",
    [
        [(11, '"a, b"\t"say ""x"""\tn')],  # as Excel writes TSV
        [(position, f'"q{position}"\t"p"\t{position}') for position in range(1, 41)],  # as R writes text and numbers
        [(11, '""\tp\tn'), (12, '5" disk\tp\tn')],
    ],
    ids="excel r empty".split(),
)
def test_quotes_as_programs_write_them_are_not_asked_about(tmp_path, lines):
    assert len(read(write(tmp_path, tsv(*lines)))) == 40


def test_without_quoting_a_quote_is_a_character_and_a_field_holds_no_line_break(tmp_path):
    path = write(tmp_path, b'query\tpositive\r\n"q\t"p"\r\na\rb\tp\r\nc\td\te\n')

    assert [(row.value, row.problem) for row in read(path, "none")] == [
        ({"query": '"q', "positive": '"p"'}, None),
        (None, "line_break_in_field"),
        (None, "wrong_number_of_fields"),
    ]


def test_line_breaks_in_fields_that_are_quoted_are_kept_even_where_some_look_like_rows(tmp_path):
    rows = [f'q{i},"one{", two" * (i % 3)}\r\n\r\nthree{", four" * (i % 2)}"\r\n' for i in range(60)]
    texts = [row.value["positive"] for row in read(write(tmp_path, "".join(["query,positive\r\n", *rows]).encode()))]

    assert texts == [f"one{', two' * (i % 3)}\r\n\r\nthree{', four' * (i % 2)}" for i in range(60)]


def test_a_header_that_comes_again_is_no_row_and_a_mark_where_files_were_joined_no_text(tmp_path):
    path = write(
        tmp_path,
        b'query,pos\na,b\n\xef\xbb\xbfquery,pos\n\xef\xbb\xbf"c",d\n Query,"POS"\nanchor,positive\nquery,d\n',
    )

    assert [row.problem or tuple(row.value.values()) for row in read(path)] == [
        *[("a", "b"), "repeated_header", ("c", "d"), "repeated_header", "repeated_header", ("query", "d")]
    ]


def test_a_second_header_in_another_order_is_refused(tmp_path):
    path = write(tmp_path, b"query,positive,negative\na,b,c\npositive,negative,query\nb,c,a\n")

    with pytest.raises(UserError, match=r"line 3 is a header again.*another order.*split the file"):
        read(path)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("a;b", ["a", "b"]),
        ("a|b|c", ["a", "b", "c"]),
        ("a, x\tb, y, z", ["a, x", "b, y, z"]),
        ("a,b;c,d", ["a", "b;c", "d"]),
        ('"a;b;c",d', ["a;b;c", "d"]),
        ('"a\tb",c', ["a\tb", "c"]),
        (",a,b,,", ["", "a", "b", "", ""]),
    ],
)
def test_the_delimiter_is_a_tab_or_what_gives_most_columns(tmp_path, header, columns):
    assert open_file(write(tmp_path, header.encode())).columns == tuple(columns)


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content", [JSON_LINES, CSV, CSV.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_utf_16_with_its_mark_is_read_as_utf_8_is(tmp_path, mark, content, compress):
    marked = ("\ufeff" + content.decode()).encode(mark)

    assert read(write(tmp_path, compress(marked), "a"))[-1].value == ROWS[1]
    assert [row.value for row in read(write(tmp_path, compress(marked), "b"))] == [
        row.value for row in read(write(tmp_path, content, "c"))
    ]


def test_half_a_surrogate_pair_in_utf_16_is_one_bad_row_and_half_a_character_a_broken_file(tmp_path):
    rows = "".join(f"q{i},p\n" for i in range(300_000))
    path = write(tmp_path, ("\ufeffquery,positive\nx\ud800,p\n" + rows).encode("utf-16-le", "surrogatepass") + b"x")
    batches = open_file(path).batches()

    assert [row.problem for row in next(batches)[:2]] == ["not_utf8", None]
    with pytest.raises(UserError, match=r"breaks off.*half a character"):
        list(batches)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": 1, "a": 2}', "repeated_key"),
        ('{"a": [{"b": 1,\t"b" : "x: y"}]}', "repeated_key"),
        ('{"a"  : 1, "a"\t: 2}', "repeated_key"),
        ('{"a": 1, "b": "\\"a\\": 2", "a": 1}', None),
        ('{"a": "b: c", "d" :{"a": ["\\"a\\":"]}}', None),
        ('{"a": 1}{"a": 2}', "not_json"),
        ('{"a": 1},', "not_json"),
        ('\ufeff {"a": NaN}\r', None),
    ],
)
def test_a_line_is_one_object_whose_keys_have_one_value_each(tmp_path, line, problem):
    path = write(tmp_path, f'{{"a": 1}}\n{line}\n'.encode())

    assert read(path)[1].problem == problem


def test_nan_in_json_is_null(tmp_path):
    assert read(write(tmp_path, b'{"a": NaN, "b": [NaN, Infinity]}\n'))[0].value == {"a": None, "b": [None, math.inf]}


def test_json_lines_may_begin_with_any_number_of_bad_lines(tmp_path):
    assert [row.problem for row in read(write(tmp_path, b"{broken\n" * 30 + b'{"a": 1}\n'))] == ["not_json"] * 30 + [
        None
    ]


def test_parquet_text_of_any_type_is_text_and_what_python_cannot_hold_a_bad_row(tmp_path):
    texts = ["a", "é"]
    kinds = [pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())]
    columns = [pyarrow.array(texts).cast(kind) for kind in kinds]
    coded = [text.encode() for text in texts]
    columns += [
        pyarrow.array(coded, kind) for kind in (pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary_view())
    ]
    columns += [pyarrow.array(coded).dictionary_encode(), pyarrow.array([[{"text": text}] for text in coded])]
    days = pyarrow.array([2**31 - 1, 1], pyarrow.date32())
    table = pyarrow.table([*columns, days], names=[*"abcdefgh", "day"])
    pyarrow.parquet.write_table(table, tmp_path / "types.parquet")
    opened = open_file(str(tmp_path / "types.parquet"))
    rows = [row for batch in opened.batches([*"abcdefgh"]) for row in batch]

    assert [list(row.value.values()) for row in rows] == [[text] * 7 + [[{"text": text}]] for text in texts]
    assert [row.problem for batch in opened.batches() for row in batch] == ["unreadable_value", None]


def test_long_csv_fields_are_read(tmp_path):
    path = write(tmp_path, b"query,positive\nq," + b"x" * 300_000 + b"\n")

    assert len(read(path)[0].value["positive"]) == 300_000


def test_parquet_reads_only_the_columns_asked_for_and_numbers_rows_across_row_groups(tmp_path):
    path = write(tmp_path, parquet_bytes([{"a": i, "b": "x"} for i in range(10)], row_group_size=3))
    rows = [row for batch in open_file(path).batches(["a"]) for row in batch]

    assert [(row.number, row.value) for row in rows] == [(i + 1, {"a": i}) for i in range(10)]


def test_a_parquet_string_that_is_not_utf8_is_one_bad_row(tmp_path):
    column = pyarrow.Array.from_buffers(
        pyarrow.string(),
        3,
        pyarrow.array([b"good", b"\xff\xfe", b"fine"], pyarrow.binary()).buffers(),
    )
    pyarrow.parquet.write_table(pyarrow.table({"query": column}), tmp_path / "bad.parquet")

    assert [(row.number, row.value, row.problem) for row in read(str(tmp_path / "bad.parquet"))] == [
        (1, {"query": "good"}, None),
        (2, None, "not_utf8"),
        (3, {"query": "fine"}, None),
    ]


def test_rows_come_in_batches_of_bounded_rows_and_bytes_before_the_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_rows, "BATCH_ROWS", 100)
    monkeypatch.setattr(raw_rows, "BATCH_BYTES", 3000)
    path = write(tmp_path, b'{"a": "x"}\n' * 250 + b'{"a": "%s"}\n' % (b"x" * 1000) * 7 + b'{"a": ')
    batches = open_file(path).batches()

    assert len(next(batches)) == 100
    assert [len(batch) for batch in batches] == [100, 53, 3, 2]


def test_a_line_too_long_for_memory_is_one_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_rows, "LINE_BYTES", 100)
    path = write(tmp_path, b'{"a": 1}\n{"a": "%s"}\n{"a": 2}\n' % (b"x" * 1000))

    assert [(row.number, row.problem) for row in read(path)] == [(1, None), (2, "line_too_long"), (3, None)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty, expected rows"),
        (b" \n\n\t\n", "only blank lines"),
        (zipped(b""), "empty"),
        (b'[\n {"query": "q"}\n]', r"JSON array.*jq -c '\.\[\]'"),
        (b'{\n "query": "q"\n}\n', r"no JSON object on any of its 3 lines.*jq -c \."),
        (b"just words\nand more\n", "begins with 'just words'.*neither of the known formats.*JSON Lines"),
        (b"\x7fELF,\x00\x01\x02", "neither of the known formats"),
        ("query,positive".encode("utf-32"), "UTF-32.*iconv"),
        ("query,positive".encode("utf-16-le"), "neither of the known.*UTF-16 without.*iconv"),
        ("fråga,query\n".encode("latin-1"), "line 1 is not UTF-8.*iconv"),
        (b"query,query,positive\n", "'query' twice"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0,1\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html><head><title>404, gone\n", "page of HTML or XML.*fetch it again"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "page of HTML or XML"),
        (b"PK\x03\x04" + bytes(40), "zip archive or a spreadsheet"),
        (bz2.compress(JSON_LINES), "compressed by bzip2.*bunzip2"),
        (lzma.compress(JSON_LINES), "compressed by xz.*unxz"),
        (b"Obj\x01\x04\x14avro.codec", "Avro"),
        (b"query,positive\rq,p\r", "line 1 is no header"),
        (parquet_bytes(ROWS)[:-20], "be read.*fetch it or write it again"),
        (parquet_bytes(ROWS)[:6], "be read"),
        (parquet_bytes(ROWS[:1]).replace(b"PAR1", b"XXXX"), "neither of the known"),
        (zipped(JSON_LINES)[:12], "be read.*[Tt]runcated"),
        (zstandard.compress(JSON_LINES)[:-3], "be read.*[Tt]runcated"),
        (zipped(JSON_LINES) + b"garbage", "be read.*incorrect header"),
        (zipped(zipped(JSON_LINES)), "neither of the known.*packed once more inside its gzip"),
        (zipped(parquet_bytes(ROWS)), "packed once more inside its gzip"),
        (b'{"a": 1},\n{"a": 2},\n', "no JSON object on any of its 2 lines.*sed"),
        (parquet_bytes(ROWS).replace(b"positive", b"negative"), "'negative' twice, expected distinct columns"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_was_found_and_what_to_do(tmp_path, content, said):
    path = write(tmp_path, content)

    with pytest.raises(UserError, match=f"(?s)^{re.escape(path)} .*{said}"):
        open_file(path)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_file_that_breaks_off_half_way_is_refused_with_the_row(tmp_path, compress):
    lines = "".join(json.dumps({"query": text_id(str(i))}) + "\n" for i in range(100_000)).encode()
    path = write(tmp_path, compress(lines)[:-1000])

    with pytest.raises(UserError, match=r"breaks off or is damaged after row [\d,]+.*nothing of this input was taken"):
        read(path)
