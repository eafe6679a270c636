"""A folder gives the rows that it means, each once, from a source of its own; else it is refused by name."""

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from pipelines.intake.find_files import find_files
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from tests.ingested import counts, row, rows_of, run, write

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


@pytest.fixture
def given(tmp_path):
    """The folder that is given."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def put(folder, name, content=None):
    """A file below the folder, by default one good row that no other file has."""
    if content is None:
        return Path(write(folder, row(f"of {folder.name}/{name}"), name=name))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def paths(folder):
    return [str(Path(file.path).relative_to(folder)) for file in find_files([str(folder)])]


def sources(tables):
    return dict(rows_of(tables, "triplets", "query", "source"))


def test_a_folder_is_read_recursively_and_sorted_and_what_is_left_out_is_said(given, capsys):
    for name in ["b/2.csv", "b/1.jsonl.gz", "a.parquet", "README.md", "dataset_info.json", "c.arrow"]:
        put(given, name)
    for name in [".hidden.jsonl", "_SUCCESS", "_tmp/x.jsonl", ".a.parquet.crc", "b.crc", "_committed_1"]:
        put(given, name, b"x")

    assert paths(given) == ["a.parquet", "b/1.jsonl.gz", "b/2.csv", "c.arrow"]
    told = capsys.readouterr().err
    assert f"not data by their names: {given}/README.md, {given}/dataset_info.json\n" in told
    assert f"skipped in {given}: 6 whose names begin with . or _" in told


def test_files_without_rows_are_left_out_and_named_unless_there_is_no_other(tables, given, capsys):
    none = pl.DataFrame([row()]).clear()
    for name in ["a.jsonl", "c.jsonl.gz"]:
        put(given, name, gzip.compress(b"") if name.endswith("gz") else b"")
    none.write_parquet(given / "d.parquet")
    with pytest.raises(UserError, match=r"no file holds a row: .*a.jsonl, .*c.jsonl.gz, .*d.parquet; expected rows as"):
        find_files([str(given)])

    put(given, "b.jsonl")

    assert paths(given) == ["b.jsonl"]
    assert f"left out, as they hold no row: {given}/a.jsonl, {given}/c.jsonl.gz, {given}/d.parquet\n" in (
        capsys.readouterr().err
    )
    put(given, "e.jsonl", b"no row")
    with pytest.raises(UserError, match=r"e.jsonl begins with 'no row': found neither of the known formats"):
        run(tables, str(given))


def test_a_missing_shard_is_said(given, capsys):
    for number in (0, 2, 4):
        put(given, f"train-{number:05}-of-00005.parquet")

    assert len(paths(given)) == 3
    assert f"{given} holds 3 of the 5 files of train: the others are not read" in capsys.readouterr().err


def dangling(folder):
    put(folder, "a.jsonl")
    (folder / "b.jsonl").symlink_to("../blobs/none")


def link_into_a_table(folder):
    write_deltalake(str(folder.parent / "table"), pl.DataFrame([row("q")]))
    (folder / "a.parquet").symlink_to(next(folder.parent.glob("table/*.parquet")))


def in_a_circle(folder):
    put(folder, "a.jsonl")
    (folder / "x").symlink_to("y")
    (folder / "y").symlink_to("x")


def fifo(folder):
    put(folder, "a.jsonl")
    os.mkfifo(folder / "b.jsonl")


def listening(folder):
    put(folder, "a.jsonl")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("b.sock")  # the folder is the current one: a socket's path is short


def files(*names, content=None):
    return lambda folder: [put(folder, name, content) for name in ("a.jsonl", *names)]


def of_other_kinds(folder):
    put(folder, "README.txt", b"words")


def saved(state, *names):
    def make(folder):
        put(folder, "state.json", json.dumps(state).encode())
        for name in names:
            put(folder, name)

    return make


def snapshots(folder):
    for revision in "ab":
        put(folder, f"datasets--org--set/snapshots/{revision}/train.jsonl")


def unfinished_snapshot(folder):
    put(folder, "datasets--org--set/snapshots/a/train.jsonl")
    put(folder, "datasets--org--set/blobs/0123.incomplete", b"half")


REFUSED = {
    "a link to nothing": (dangling, r"b.jsonl is a link to ../blobs/none, which leads nowhere"),
    "a link to a file of a table": (
        link_into_a_table,
        "a.parquet lies in the Delta table .*/table, whose files may hold",
    ),
    "links in a circle": (in_a_circle, r"/x is a link to y, which leads nowhere"),
    "a pipe": (fifo, "b.jsonl is no regular file"),
    "a socket": (listening, "b.sock is no regular file"),
    "a download that goes on": (files("b.parquet.incomplete"), "b.parquet.incomplete .* was not finished"),
    "a browser's half download": (files("b.jsonl.crdownload"), "crdownload .* was not finished"),
    "a file that is being written": (files("b.csv.tmp"), "b.csv.tmp .* was not finished"),
    "a folder that is being written": (files("x.incomplete/b.arrow"), "x.incomplete .* was not finished"),
    "a part": (files("b.jsonl.part"), "b.jsonl.part .* was not finished"),
    "an archive": (files("sub/b.zip"), "formats that are not read: .*sub/b.zip; expected JSON Lines.*unpack"),
    "a tar": (files("b.tar.gz", "c.avro"), "not read: .*/b.tar.gz, .*/c.avro"),
    "an unknown compression": (files("b.jsonl.bz2"), "not read: .*b.jsonl.bz2"),
    "a spreadsheet": (files("b.XLSX"), "not read: .*b.XLSX"),
    "no data at all": (
        of_other_kinds,
        r"holds no data file \(1 other files\), expected at least one that ends in .*csv",
    ),
    "hidden data alone": (lambda folder: put(folder, "_a/a.jsonl"), r"0 other files and 1 whose names begin with"),
    "Iceberg": (files("t/data/1.parquet", "t/metadata/v1.metadata.json"), "/t is an Iceberg table"),
    "Hudi": (files("t/de/1.parquet", "t/.hoodie/hoodie.properties"), "/t is a Hudi table"),
    "a stream's output": (files("_spark_metadata/0"), "the output of a Spark stream"),
    "a log without commits": (files("t/_delta_log/x"), "/t has a _delta_log but no commit in it"),
    "a damaged log": (
        files("t/_delta_log/00000000000000000000.json", content=b"rubbish"),
        "the log of the Delta table .*/t cannot be read .*restore it from a copy",
    ),
    "a data set without one of its files": (
        saved({"_data_files": [{"filename": "data-00000-of-00002.arrow"}]}, "data-00001-of-00002.arrow"),
        "was saved with data-00000-of-00002.arrow, which it does not hold",
    ),
    "a data set without one of its splits": (
        lambda folder: [put(folder, "dataset_dict.json", b'{"splits": ["train", "test"]}'), put(folder, "train/a.csv")],
        "was saved with test, which it does not hold",
    ),
    "a selection of rows": (
        saved({"_data_files": [{"filename": "a.csv"}], "_indices_files": [{"filename": "i.arrow"}]}, "a.csv"),
        "is a selection of rows .*flatten_indices",
    ),
    "several revisions": (snapshots, "holds the snapshots (a, b|b, a), expected one"),
    "a hub's download that did not end": (unfinished_snapshot, "0123.incomplete: the download of .*/a did not end"),
    "a download to a folder that did not end": (
        files(".cache/huggingface/download/data/train.parquet.0f.incomplete"),
        "train.parquet.0f.incomplete: the download of .*/corpus did not end",
    ),
    "a value in no known encoding": (files("lang=%ff/b.jsonl"), "lang=%ff: the escapes in its name are not UTF-8"),
    "a name that is no text": (files("b\udcff.jsonl"), r"b\\udcff.jsonl' has a name in it that is not UTF-8"),
    "a value of two folders": (files("lang=de/x/lang=fr/b.jsonl"), "says lang=fr within lang=de"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_would_be_read_wrong_is_refused_by_name(given, monkeypatch, make, said):
    monkeypatch.chdir(given)
    make(given)

    with pytest.raises(UserError, match=rf"(?s){said}"):
        find_files([str(given)])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.jsonl", "missing.jsonl does not exist"),
        ("corpus@3", "corpus@3 does not exist and .*/corpus is no Delta table"),
        ("link", "link is a link to nowhere, which leads nowhere"),
        ("s3://b/x", "is a URL"),
        ("", "input is empty; expected a path"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_input_that_is_not_there_is_refused(given, tmp_path, name, said):
    (tmp_path / "link").symlink_to("nowhere")

    with pytest.raises(UserError, match=said):
        find_files([str(tmp_path / name) if name and "://" not in name else name])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["closed", "closed/b.jsonl"])
def test_what_may_not_be_read_is_refused(closed):
    code = "import os, sys; from pipelines.intake.find_files import find_files; os.setgid(65534); os.setuid(65534)\n"
    code += "print([file.sha256 for file in find_files(sys.argv[1:])])"
    with tempfile.TemporaryDirectory() as given:  # not tmp_path, which is the user's alone
        Path(given).chmod(0o755)
        put(Path(given), "closed/b.jsonl")
        Path(given, closed).chmod(0)
        told = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, cwd=ROOT).stderr

    assert re.search(rf"UserError: .*{closed} cannot be read.*Permission denied", told)


@pytest.mark.parametrize("other", ["link", "hard link", "linked folder", "cycle", "again", "in the folder", "dots"])
def test_the_same_file_is_read_once_and_that_is_said(tables, given, capsys, other):
    path = put(given, "sub/a.jsonl")
    inputs = [str(given)]
    if other == "link":
        (given / "z.jsonl").symlink_to(path)
    elif other == "hard link":
        (given / "z.jsonl").hardlink_to(path)
    elif other == "linked folder":
        (given / "z").symlink_to("sub")
    elif other == "cycle":
        (given / "sub" / "up").symlink_to("..")
    else:
        inputs.append(str({"again": given, "in the folder": path, "dots": f"{given}/sub/../sub/a.jsonl"}[other]))
    run(tables, *inputs)

    assert counts(tables) == [[1, 1, 0, 0]]
    assert "read once, though given twice or there again by a link: " in capsys.readouterr().err


def test_the_source_of_a_folders_files_is_the_folders_name(tables, given, tmp_path, monkeypatch):
    monkeypatch.chdir(put(tmp_path, "here/x.jsonl").parent)
    for name in [
        "a/part-0.jsonl",
        "corpus.parquet/part-1.jsonl",
        "datasets--org--my-set/snapshots/0f/data/part-2.jsonl",
    ]:
        put(tmp_path / "other", name)
    put(given, "deep/part-3.jsonl")
    hub = tmp_path / "other/datasets--org--my-set"
    run(tables, ".", f"{given}/", f"{tmp_path}/other/corpus.parquet", str(hub), f"{tmp_path}/other/a/part-0.jsonl")

    assert sorted(sources(tables).values()) == ["corpus", "corpus", "here", "my-set", "part-0"]
    assert {file.source for file in find_files([str(hub / "snapshots/0f/data"), str(hub / "snapshots/0f")])} == {
        "my-set"
    }


def test_of_a_hubs_folder_the_newest_snapshot_is_read(given):
    snapshots(given)
    put(given, "datasets--org--set/refs/main", b"b")

    assert paths(given) == ["datasets--org--set/snapshots/b/train.jsonl"]


def test_a_shard_that_was_ingested_by_its_own_name_adds_nothing_in_its_folder(tables, given, capsys):
    path = put(given, "part-0.jsonl")
    version = run(tables, str(path))

    assert run(tables, str(given)) == version
    assert "ingested before as part-0: adds nothing" in capsys.readouterr().err
    assert counts(tables) == [[1, 1, 0, 0]]
    run(tables, str(given), source="books")
    assert counts(tables) == [[1, 0, 1, 0], [1, 1, 0, 0]]


def test_a_folders_name_gives_a_column(tables, given):
    same = {"query": "q", "positive": "p", "negative": "n"}
    for number, name in enumerate(
        ["source=abc", "source=d%2Fé%25", "source=__HIVE_DEFAULT_PARTITION__", "_year=7/source=x"]
    ):
        frame = pl.DataFrame([same | {"query": f"q{number}"}])
        (given / name).mkdir(parents=True)
        frame.write_parquet(given / name / "part-0.parquet")
    run(tables, str(given))

    assert sources(tables) == {"q0": "abc", "q1": "d/é%", "q2": "corpus", "q3": "x"}


@pytest.mark.parametrize("below", ["", "lang=de", "lang=de/part-0.jsonl"])
def test_a_folders_column_is_read_wherever_the_path_begins(tables, given, below):
    put(given, "lang=de/part-0.jsonl")
    run(tables, str(given / below), columns={"source": "lang"})

    assert list(sources(tables).values()) == ["de"]


def test_equal_files_in_folders_of_other_values_are_not_the_same_rows(tables, given):
    for lang in ("de", "fr"):
        write(given, row(external_id=lang), row(lang), name=f"lang={lang}/part-0.jsonl")
    content = (given / "lang=de/part-0.jsonl").read_bytes()
    for lang in ("it", "nl"):
        put(given, f"lang={lang}/part-0.jsonl", content.replace(b'"q"', b'"same"'))
    run(tables, str(given), columns={"source": "lang"})

    assert counts(tables) == [[2, 2, 0, 0], [2, 1, 1, 0], [2, 1, 1, 0], [2, 0, 2, 0]]


def test_a_column_that_a_folders_name_contradicts_is_refused(tables, given):
    write(given, row(source="a"), row("r", source="b"), name="source=a/part-0.jsonl")

    with pytest.raises(UserError, match=r"row 2 has source 'b', but its folder's name says 'a'"):
        run(tables, str(given))
