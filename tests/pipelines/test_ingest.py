"""Every input row ends as triplets, duplicates or one quarantined row; the same again adds nothing."""

from pathlib import Path

import polars as pl
import pytest

from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.texts.ids import text_id, triplet_id
from tests.ingested import counts, row, rows_of, run, write


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def test_a_row_becomes_a_triplet_with_its_ids_and_where_it_came_from(tables, tmp_path):
    path = write(tmp_path, row(key=7), name="pairs.jsonl")
    version = run(tables, path, columns={"external_id": "key"})
    ids = [text_id("q"), text_id("p"), text_id("n")]

    assert str(version) == "triplets@0"
    assert rows_of(tables, "triplets") == [
        (triplet_id(*ids), *ids, "q", "p", "n", "pairs", path, 1, "7", "given", None, None)
    ]


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
    assert f"{first}: 10 rows: 9 accepted as 8 new triplets and 1 duplicate, 1 quarantined" in told
    assert "2 files: 12 rows: 11 accepted as 12 new triplets and 4 duplicates, 1 quarantined" in told
    assert "quarantined: query_blank in 1; the rows: `python -m jobs query" in told


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


@pytest.mark.parametrize(
    ("bad", "reasons"),
    [
        ("not json", ["not_json"]),
        ("[1]", ["not_an_object"]),
        ('{"query": "q", "positive": "p"}', ["negative_missing"]),
        ('{"query": null, "positive": "p", "negative": "n"}', ["query_missing"]),
        ('{"query": "q", "positive": 1, "negative": "n"}', ["positive_wrong_type"]),
        ('{"query": "q", "positive": "p", "negative": " "}', ["negative_blank"]),
        ('{"query": "\\ud800", "positive": "p", "negative": "n"}', ["query_has_lone_surrogate"]),
        ('{"query": "q", "positive": "p", "negative": "p "}', ["positive_equals_negative"]),
        ('{"query": "q", "positive": "p", "negative": "%s"}' % ("x" * 5_000_000), ["negative_too_long"]),
        ('{"query": "", "positive": null, "negative": "n"}', ["query_blank", "positive_missing"]),
    ],
    ids=lambda told: told[:40] if isinstance(told, str) else None,
)
def test_a_single_bad_row_is_quarantined_and_the_rest_goes_on(tables, tmp_path, bad, reasons):
    path = Path(write(tmp_path, *[row(f"q{i}") for i in range(9)]))
    path.write_text(path.read_text() + bad + "\n")
    run(tables, str(path))

    assert rows_of(tables, "quarantined_rows", "source_row", "reasons", "raw") == [(10, reasons, bad[:4096])]
    assert len(rows_of(tables, "triplets")) == 9


def test_invalid_utf8_is_kept_as_valid_text_of_at_most_4_kb(tables, tmp_path):
    path = Path(write(tmp_path, *[row(f"q{i}") for i in range(9)]))
    path.write_bytes(path.read_bytes() + b"\xff" * 10_000 + b"\n")
    run(tables, str(path))
    ((reasons, raw),) = rows_of(tables, "quarantined_rows", "reasons", "raw")

    assert reasons == ["not_utf8"]
    assert raw == "\ufffd" * (4096 // 3)


def test_nothing_of_a_bad_row_is_kept_where_the_config_says_so(tables, tmp_path):
    bad = row("secret", "") | {"source": "secret"}
    run(tables, write(tmp_path, row(), bad), max_bad_share=0.5, keep_raw=False)
    assert rows_of(tables, "quarantined_rows", "raw", "named_source") == [(None, None)]

    with pytest.raises(UserError) as refused:
        run(tables, write(tmp_path, row("secret", "")), keep_raw=False)
    assert "secret" not in str(refused.value)


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


LATE = [
    *[row(f"q{i}") for i in range(30)],
    row("r", negative_3="third", source="books", external_id=7),
    {"anchor": "s", "positive": "p", "negative_passages": [{"title": "T", "text": "x"}, {"title": "", "text": "y"}]},
]


@pytest.mark.parametrize("order", [1, -1], ids=["late", "early"])
def test_what_becomes_of_a_row_does_not_depend_on_the_rows_before_it(tables, tmp_path, order):
    run(tables, write(tmp_path, *LATE[::order]))
    triplets = rows_of(tables, "triplets", "query", "negative", "source", "external_id")

    assert sorted(row for row in triplets if row[0] in "rs") == [
        *[
            ("r", "n", "books", "7"),
            ("r", "third", "books", "7"),
            ("s", "T x", "train", None),
            ("s", "y", "train", None),
        ]
    ]
    assert len(triplets) == 34


def test_a_file_whose_rows_name_no_negative_is_refused_and_one_where_most_do_is_not(tables, tmp_path):
    pairs = [{"query": f"q{i}", "positive": "p"} for i in range(30)]
    with pytest.raises(
        UserError, match=r"no column for negative .*pairs without negatives: `python -m jobs mine --input "
    ):
        run(tables, write(tmp_path, *pairs))
    run(tables, write(tmp_path, *pairs, *[row(f"r{i}") for i in range(300)]))

    assert counts(tables) == [[330, 300, 0, 30]]


def test_with_a_raised_limit_a_file_is_read_again_and_what_it_takes_is_not_lost_any_more(tables, tmp_path, capsys):
    path = write(tmp_path, *[row(f"q{i}") for i in range(30)], row("r", negative="n" * 20), row(" "))
    run(tables, path, max_text_chars=10)
    assert rows_of(tables, "quarantined_rows", "source_row") == [(31,), (32,)]

    assert str(run(tables, path)) == "triplets@1"
    assert rows_of(tables, "quarantined_rows", "source_row", "reasons") == [(32, ["query_blank"])]
    assert counts(tables) == [[32, 1, 30, 1], [32, 30, 0, 2]]
    versions = [tables.latest(name) for name in ("triplets", "quarantined_rows", "ingested_files")]
    for limit in ({}, {"max_text_chars": 10}, {"max_bad_share": 0.5}):
        run(tables, path, **limit)
    assert versions == [tables.latest(version.name) for version in versions]


def test_a_quoting_that_is_said_is_another_way_to_read_the_same_file(tables, tmp_path, capsys):
    path = tmp_path / "train.tsv"
    path.write_text("query\tpositive\tnegative\n" + "".join(f"q{i}\tp\tn\n" for i in range(20)) + '"a" b\tp\tn\n')
    run(tables, str(path))
    assert "give --quoting none" in capsys.readouterr().err
    run(tables, str(path), quoting="none")

    assert ('"a" b',) in rows_of(tables, "triplets", "query")
    assert rows_of(tables, "quarantined_rows") == []
    assert sorted(rows_of(tables, "ingested_files", "columns")) == [("",), ('{"quoting": "none"}',)]


def test_a_beir_folder_is_for_mine(tables, tmp_path):
    (tmp_path / "a set" / "qrels").mkdir(parents=True)
    write(tmp_path / "a set", {"_id": "d", "text": "a"}, name="corpus.jsonl")

    with pytest.raises(UserError, match=r"is a BEIR folder.*`python -m jobs mine --input '.*a set'`"):
        run(tables, str(tmp_path / "a set"))


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
