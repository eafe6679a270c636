"""Every input row ends as triplets, duplicates or one quarantined row; the same again adds nothing; a crash heals."""

import gzip
import json
import re
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from pipelines import ingest
from pipelines.ingest import IngestConfig
from pipelines.intake import append_triplets, spill
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.storage.commits import IntakeResult
from pipelines.texts.ids import text_id, triplet_id


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def row(query="q", positive="p", negative="n", **others):
    return {"query": query, "positive": positive, "negative": negative, **others}


def write(tmp_path, *rows, name="train.jsonl"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tables, *inputs, columns=None, **options):
    config = IngestConfig(**{key: options.pop(key) for key in list(options) if key in IngestConfig.model_fields})
    return ingest.run(tables, list(inputs), config, columns=columns or {}, **options)


def rows_of(tables, name, *columns):
    version = tables.latest(name)
    return [] if version is None else version.scan().select(columns or pl.all()).collect().rows()


def counts(tables):
    """(rows, triplets, duplicates, quarantined) of each ingested file, by its path."""
    files = rows_of(tables, "ingested_files", "path", "rows", "triplets", "duplicates", "quarantined")
    return [numbers for _, *numbers in sorted(files)]


def no_table_is_there(tables):
    return all(tables.latest(name) is None for name in ("triplets", "quarantined_rows", "ingested_files"))


def test_a_row_becomes_a_triplet_with_its_ids_and_where_it_came_from(tables, tmp_path):
    path = write(tmp_path, row(key=7), name="pairs.jsonl")
    version = run(tables, path, columns={"external_id": "key"})
    ids = [text_id("q"), text_id("p"), text_id("n")]

    assert str(version) == "triplets@0"
    assert rows_of(tables, "triplets") == [(triplet_id(*ids), *ids, "q", "p", "n", "pairs", path, 1, "7")]


@pytest.mark.parametrize(
    ("rows", "options", "sources"),
    [
        ([row()], {}, ["train"]),
        ([row()], {"source": "msmarco"}, ["msmarco"]),
        ([row(source="a"), row("r", source=None)], {}, ["a", "train"]),
        ([row(source="a")], {"source": "msmarco"}, ["msmarco"]),
        ([row(corpus="a")], {"source": "msmarco", "columns": {"source": "corpus"}}, ["a"]),
    ],
)
def test_the_source_is_the_columns_or_the_given_one_or_the_files_name(tables, tmp_path, rows, options, sources):
    run(tables, write(tmp_path, *rows, name="train.jsonl"), **options)

    assert sorted(source for (source,) in rows_of(tables, "triplets", "source")) == sources


def test_every_row_ends_once_and_the_counts_add_up(tables, tmp_path, capsys):
    good = [row(f"q{i}") for i in range(8)]
    first = write(tmp_path, *good, row("q0"), row(" "), name="first.jsonl")
    second = write(tmp_path, row("q1"), row("new", ["p", "r"], ["m", "n", "n"]), name="second.jsonl")
    run(tables, first, second)

    assert counts(tables) == [[10, 8, 1, 1], [2, 4, 3, 0]]
    assert rows_of(tables, "quarantined_rows", "source_file", "source_row", "reasons") == [(first, 10, ["query_blank"])]
    told = capsys.readouterr().err
    assert f"{first}: 10 rows: 9 accepted as 8 new triplets and 1 duplicates, 1 quarantined" in told
    assert "2 files: 12 rows: 11 accepted as 12 new triplets and 4 duplicates, 1 quarantined" in told


def test_the_first_occurrence_by_file_and_row_wins(tables, tmp_path):
    first = write(tmp_path, row("other"), row(), row(), name="z.jsonl")
    run(tables, first, write(tmp_path, row(), name="a.jsonl"))

    assert ("q", first, 2) in rows_of(tables, "triplets", "query", "source_file", "source_row")


def test_the_same_file_again_adds_no_row_and_no_version(tables, tmp_path, capsys):
    path = write(tmp_path, row(), row("r"), row("s", ""), name="train.jsonl")
    version = run(tables, path, max_bad_share=0.5)
    copy = write(tmp_path, row(), row("r"), row("s", ""), name="copy/train.jsonl")

    assert run(tables, path, copy, max_bad_share=0.5) == version
    assert "ingested before" in capsys.readouterr().err
    assert tables.latest("quarantined_rows").version == tables.latest("ingested_files").version == 0
    assert counts(tables) == [[3, 2, 0, 1]]


def test_rows_that_are_known_from_another_file_are_duplicates_and_make_no_version(tables, tmp_path):
    version = run(tables, write(tmp_path, row(), row("r"), name="a.jsonl"))

    assert run(tables, write(tmp_path, row("r"), row(), name="b.jsonl")) == version
    assert counts(tables) == [[2, 2, 0, 0], [2, 0, 2, 0]]


def test_a_block_is_clustered_and_sorted_by_query_whatever_the_order_of_rows(tables, tmp_path):
    rows = [row(f"q{i % 7}", f"p{i % 3}", f"n{i}") for i in range(60)]
    run(tables, write(tmp_path, *rows))
    other = Tables.at(str(tmp_path / "other"))
    run(other, write(tmp_path, *reversed(rows), name="reversed.jsonl"))
    ids = rows_of(tables, "triplets", "query_id", "positive_id", "negative_id")

    assert ids == sorted(ids)
    assert ids == rows_of(other, "triplets", "query_id", "positive_id", "negative_id")


def test_memory_holds_one_partition_at_a_time_and_a_query_stays_whole(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "BUFFER_BYTES", 2000)
    monkeypatch.setattr(spill, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(spill, "FRAME_ROWS", 10)
    run(tables, write(tmp_path, *[row(f"q{i % 50}", "p", f"n{i}") for i in range(500)]))
    files = tables.latest("triplets").files()
    ranges = sorted((file["min.query_id"], file["max.query_id"]) for file in files)

    assert sum(file["num_records"] for file in files) == 500
    assert len(files) > 10
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_the_number_of_partitions_follows_the_size_of_the_input(tmp_path):
    assert [spill.Spill(tmp_path, size).digits for size in (1, 10 << 20, 1 << 30, 1 << 40)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("not json", "not_json"),
        ("[1]", "not_an_object"),
        ('{"query": "q", "positive": "p"}', "negative_missing"),
        ('{"query": null, "positive": "p", "negative": "n"}', "query_missing"),
        ('{"query": "q", "positive": 1, "negative": "n"}', "positive_wrong_type"),
        ('{"query": "q", "positive": "p", "negative": " "}', "negative_blank"),
        ('{"query": "\\ud800", "positive": "p", "negative": "n"}', "query_has_lone_surrogate"),
        ('{"query": "q", "positive": "p", "negative": "p "}', "positive_equals_negative"),
        ('{"query": "q", "positive": "p", "negative": "%s"}' % ("x" * 5_000_000), "negative_too_long"),
    ],
    ids=lambda text: text[:40],
)
def test_a_single_bad_row_is_quarantined_and_the_rest_goes_on(tables, tmp_path, bad, reason):
    path = Path(write(tmp_path, *[row(f"q{i}") for i in range(9)]))
    path.write_text(path.read_text() + bad + "\n")
    run(tables, str(path))
    ((number, reasons, raw),) = rows_of(tables, "quarantined_rows", "source_row", "reasons", "raw")

    assert (number, reasons, raw) == (10, [reason], bad[:4096])
    assert len(rows_of(tables, "triplets")) == 9


def test_invalid_utf8_is_kept_as_valid_text_of_at_most_4_kb(tables, tmp_path):
    path = Path(write(tmp_path, *[row(f"q{i}") for i in range(9)]))
    path.write_bytes(path.read_bytes() + b"\xff" * 10_000 + b"\n")
    run(tables, str(path))
    ((reasons, raw),) = rows_of(tables, "quarantined_rows", "reasons", "raw")

    assert reasons == ["not_utf8"]
    assert raw == "\ufffd" * (4096 // 3)


def test_raw_rows_are_not_kept_where_the_config_says_so(tables, tmp_path):
    run(tables, write(tmp_path, row(), row("secret", "")), max_bad_share=0.5, keep_raw=False)
    assert rows_of(tables, "quarantined_rows", "raw") == [(None,)]

    with pytest.raises(UserError) as refused:
        run(tables, write(tmp_path, row("secret", "")), keep_raw=False)
    assert "secret" not in str(refused.value)


def test_more_bad_rows_than_max_bad_share_refuse_the_whole_input_and_write_nothing(tables, tmp_path):
    good = write(tmp_path, row(), name="good.jsonl")
    bad = write(tmp_path, row("a"), row("b", ""), row("c", 3), row("d", 4), name="bad.jsonl")
    said = (
        r"bad.jsonl: 3 of 4 rows \(75.0%\) are bad, expected at most 10.0%: positive_wrong_type in 2 \(e.g. row 3: .*3"
    )

    with pytest.raises(UserError, match=said):
        run(tables, good, bad)
    assert no_table_is_there(tables)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "blank"),
        (b"q,d\nx,y\n", r"found the columns q, d; expected query: .*--columns query=q"),
        (b"query,positive,negative\n", "no row below its header"),
        (b"what is it,an answer,another\n", "put a header line above"),
        (
            gzip.compress(b"".join(b'{"query": "%d", "positive": "p", "negative": "n"}\n' % i for i in range(9)))[:-9],
            "fetch it",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(tables, tmp_path, content, said):
    good, path = write(tmp_path, row(), name="good.jsonl"), tmp_path / "train.csv"
    path.write_bytes(content)

    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*{said}"):
        run(tables, good, str(path))
    assert no_table_is_there(tables)


def test_ignored_columns_are_named_once_for_files_of_one_layout(tables, tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path, row(name, id=1), row("late", score=2), name=f"data/{name}.jsonl")
    run(tables, str(tmp_path / "data"))

    assert capsys.readouterr().err.count("ignored columns id, score") == 1


def test_numbered_negatives_that_show_up_late_are_read(tables, tmp_path):
    few = [{"anchor": f"q{i}", "positive": "p", "negative_1": "m"} for i in range(30)]
    run(tables, write(tmp_path, *few, {**few[0], "negative_1": None, "negative_3": "late"}))

    assert counts(tables) == [[31, 31, 0, 0]]
    assert ("late",) in rows_of(tables, "triplets", "negative")


def test_parquet_with_lists_of_passages_is_read(tables, tmp_path):
    passages = [[{"docid": "1", "title": "T", "text": "x"}, {"docid": "2", "title": "", "text": "y"}]]
    frame = pl.DataFrame(
        {
            "query": ["q"],
            "positive_passages": [[{"docid": "3", "title": "", "text": "p"}]],
            "negative_passages": passages,
        }
    )
    frame.write_parquet(tmp_path / "tevatron.parquet")
    run(tables, str(tmp_path / "tevatron.parquet"))

    assert sorted(rows_of(tables, "triplets", "positive", "negative")) == [("p", "T x"), ("p", "y")]


class Crash(Exception):
    pass


@pytest.mark.parametrize("crash_at", ["quarantined_rows", "triplets", "ingested_files"])
def test_a_crash_between_commits_is_healed_by_running_again(tables, tmp_path, monkeypatch, crash_at):
    path = write(tmp_path, *[row(f"q{i}") for i in range(9)], row(" "))
    commit = append_triplets.new_version

    def crashing(tables, table, *arguments, **options):
        if table.table_name() == crash_at:
            raise Crash
        return commit(tables, table, *arguments, **options)

    monkeypatch.setattr(append_triplets, "new_version", crashing)
    with pytest.raises(Crash):
        run(tables, path)
    monkeypatch.setattr(append_triplets, "new_version", commit)
    version = run(tables, path)

    assert version.version == 0
    assert len(rows_of(tables, "triplets")) == 9
    assert len(rows_of(tables, "quarantined_rows")) == 1
    assert counts(tables) == [[10, 9, 0, 1]]


def test_two_ingests_at_once_add_no_triplet_twice(tables, tmp_path, monkeypatch, capsys):
    run(tables, write(tmp_path, row("first"), name="first.jsonl"))
    slow, fast = write(tmp_path, row(), row("r"), name="slow.jsonl"), write(tmp_path, row(), name="fast.jsonl")
    commit = append_triplets.new_version

    def overtaken(tables, table, *arguments, **options):
        if table.table_name() == "triplets":
            monkeypatch.setattr(append_triplets, "new_version", commit)
            run(tables, fast)
        return commit(tables, table, *arguments, **options)

    monkeypatch.setattr(append_triplets, "new_version", overtaken)
    run(tables, slow)

    assert "moved on meanwhile" in capsys.readouterr().err
    assert sorted(query for (query,) in rows_of(tables, "triplets", "query")) == ["first", "q", "r"]
    assert counts(tables) == [[1, 1, 0, 0], [1, 1, 0, 0], [2, 1, 1, 0]]


def test_the_commit_carries_the_counts_of_its_files(tables, tmp_path):
    path = write(tmp_path, row())
    version = run(tables, path, licence="CC-BY-4.0")
    commit = version.commit

    assert commit.stage == "ingest"
    assert [(file.path, file.licence, file.triplets) for file in commit.reports(IntakeResult).ingested_files] == [
        (path, "CC-BY-4.0", 1)
    ]
