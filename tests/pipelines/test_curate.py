"""Curation of a table version: what is read, what is committed, what is refused, and splits without leaks."""

import json
from itertools import count, islice
from pathlib import Path

import polars as pl
import pytest

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.texts.ids import text_id
from pipelines.texts.splits import in_share
from tests.rows import split_of_text
from tests.scored_versions import JUDGE, write_scored, write_triplets
from tests.scored_versions import scored_rows as rows_of

NO_SPLITS = CurateConfig(test_share=0, dev_share=0, max_drop_share=1)
HALF = CurateConfig(test_share=0.5, dev_share=0.0, max_drop_share=1.0)


def query_in(split: str, number: int = 0) -> str:
    """The number-th made-up query that falls into a split."""
    names = (f"question {index}" for index in count())
    found = (name for name in names if split_of_text(name, HALF.dev_share, HALF.test_share) == split)
    return next(islice(found, number, None))


def made_up(num_queries: int = 60, source: str = "docs"):
    """Each query has a row to keep, one to swap and one to drop."""
    rows = []
    for number in range(num_queries):
        query, positive = f"what is {source} {number}?", f"{source} {number}"
        rows += [(query, positive, 5.0, f"easy {number}", -5.0), (query, f"wrong {number}", -4.0, positive, 5.0)]
        rows += [(query, positive, 5.0, f"hard {number}", 4.8)]
    return rows_of(rows, source=source)


def scored_rows_of_bad_source(num_queries: int) -> pl.DataFrame:
    """Of each query one row; those of even numbers are to be dropped."""
    rows = [(f"rotten {n}?", f"p{n}", -5.0 if n % 2 else 5.0, f"n{n}", -5.0) for n in range(num_queries)]
    return rows_of(rows, source="rotten")


def write(tables: Tables, rows: pl.DataFrame):
    return write_scored(write_triplets(tables, rows), rows)


@pytest.fixture
def tables(tmp_path) -> Tables:
    return Tables.at(str(tmp_path / "tables"))


def test_kept_corrected_and_dropped_rows_add_up_to_the_scored_ones_by_source(tables):
    rows = pl.concat([made_up(60, "docs"), made_up(20, "wiki")])

    done = curate.run(write(tables, rows), CurateConfig(max_drop_share=0.4, test_share=0.0))

    assert done.counts.rows() == [
        ("docs", "kept", "", 60),
        ("docs", "corrected", "promoted", 60),
        ("docs", "corrected", "swapped", 60),
        ("wiki", "kept", "", 20),
        ("wiki", "corrected", "promoted", 20),
        ("wiki", "corrected", "swapped", 20),
    ]
    assert done.version.scan().collect().height == 240
    assert [one.model_dump() for one in done.version.commit.result.counts] == done.counts.to_dicts()


def test_dropped_is_committed_with_the_same_curation_and_both_name_what_they_come_from(tables):
    scored = write(tables, rows_of([("q", "a", 5.0, "b", -5.0), ("q", "c", -3.0, "b", -3.1)]))

    curated = curate.run(scored, CurateConfig()).version
    dropped = tables.latest("dropped_triplets")

    kept_row, dropped_row = (version.scan().collect().row(0, named=True) for version in (curated, dropped))
    assert kept_row["curation"] == dropped_row["curation"] == curated.commit.result.curation
    assert kept_row["scored_version"] == dropped_row["scored_version"] == str(scored)
    assert [one.version for one in curated.commit.inputs] == [str(scored), "triplets@0"]
    assert dropped.commit.result.curation == kept_row["curation"]


def test_without_the_teacher_every_row_that_can_be_judged_stays_as_it_came(tables):
    failed = rows_of([("failed", "a", None, "b", 1.0)], scoring_error="too long")
    rows = pl.concat([made_up(20), failed])
    scored = write(tables, rows)

    done = curate.run(scored, CurateConfig(ask_teacher=False, test_share=0.0))

    kept = done.version.scan().collect()
    assert kept["triplet_id"].sort().equals(made_up(20)["triplet_id"].sort())
    assert kept["correction"].null_count() == len(kept) == 60
    assert kept.filter(pl.col("teacher_margin") < 0).height == 20
    assert [(row["outcome"], row["rows"]) for row in done.counts.to_dicts()] == [("kept", 60), ("dropped", 1)]


def test_the_version_that_the_same_curation_made_is_found_whatever_came_after(tables):
    scored, other = write(tables, made_up()), HALF.model_copy(update={"corrections": ()})
    assert curate.find(scored, HALF) is None

    made = curate.run(scored, HALF).version
    curate.run(scored, other)

    assert curate.find(scored, HALF) == made
    assert curate.find(scored, HALF, teacher=JUDGE) == made
    assert curate.find(scored, HALF.model_copy(update={"max_drop_share": 0.9})) is None


def test_the_same_input_and_config_give_the_same_rows_whatever_the_block_size(tables, monkeypatch):
    scored = write(tables, made_up(12))
    curate.run(scored, HALF)

    monkeypatch.setattr(curate, "ROWS_PER_BLOCK", 4)
    by_pieces = curate.run(scored, HALF).version

    assert len(by_pieces.files()) > 5
    for name in ("curated_triplets", "dropped_triplets"):
        first, second = (tables.parse(f"{name}@{version}").scan().collect().sort("triplet_id") for version in (0, 1))
        assert first.equals(second)


def test_rows_are_sorted_by_query_and_triplet_in_every_file(tables):
    version = curate.run(write(tables, made_up()), CurateConfig(test_share=0, dev_share=0)).version
    rows = version.scan().select("query_id", "triplet_id").collect()

    assert rows.equals(rows.sort("query_id", "triplet_id"))


def test_a_query_stands_in_one_split_however_it_is_typed(tables):
    spellings = ["Sort a list", "sort  a LIST?", "sort: a list!"]
    scored = write(tables, rows_of([(query, f"answer {query}", 5.0, "no", -5.0) for query in spellings]))

    curated = curate.run(scored, HALF).version.scan().collect()

    assert curated["split"].n_unique() == 1
    assert len(curated) == 3


class TestPositiveInTraining:
    def curated_and_dropped(self, tables, *rows):
        curated = curate.run(write(tables, rows_of(list(rows))), HALF).version.scan().collect()
        dropped = tables.latest("dropped_triplets").scan().collect()
        return set(curated["query"]), {query: reason for query, reason in dropped.select("query", "drop_reason").rows()}

    def test_a_test_query_that_shares_a_positive_with_training_leaves_the_test_whole(self, tables):
        train, test, free = query_in("train"), query_in("test"), query_in("test", 1)

        curated, dropped = self.curated_and_dropped(
            tables,
            (train, "shared", 5.0, "x", -5.0),
            (test, "shared", 5.0, "x", -5.0),
            (test, "own", 5.0, "y", -5.0),
            (free, "free", 5.0, "shared", -5.0),  # as a negative it does no harm
        )

        assert curated == {train, free}
        assert dropped == {test: "positive_in_training"}

    def test_a_positive_that_training_got_by_correction_counts(self, tables):
        train, test = query_in("train"), query_in("test")

        curated, dropped = self.curated_and_dropped(
            tables, (train, "wrong", -5.0, "shared", 5.0), (test, "shared", 5.0, "x", -5.0)
        )

        assert (curated, dropped) == ({train}, {test: "positive_in_training"})

    def test_a_positive_that_the_test_query_got_by_correction_counts(self, tables):
        train, test = query_in("train"), query_in("test")

        curated, dropped = self.curated_and_dropped(
            tables, (train, "shared", 5.0, "x", -5.0), (test, "wrong", -5.0, "shared", 5.0)
        )

        assert (curated, dropped) == ({train}, {test: "positive_in_training"})

    def test_a_positive_that_training_had_before_its_correction_counts(self, tables):
        train, test = query_in("train"), query_in("test")

        curated, dropped = self.curated_and_dropped(
            tables, (train, "shared", -5.0, "right", 5.0), (test, "shared", 5.0, "x", -5.0)
        )

        assert (curated, dropped) == ({train}, {test: "positive_in_training"})

    def test_test_queries_may_share_a_positive_with_each_other(self, tables):
        tests = [query_in("test", number) for number in (0, 1)]

        curated, dropped = self.curated_and_dropped(tables, *((query, "shared", 5.0, "x", -5.0) for query in tests))

        assert (curated, dropped) == (set(tests), {})


class TestWhichScores:
    def test_only_the_rows_of_the_completed_triplets_version_are_curated(self, tables, capsys):
        first = rows_of([("q1", "a", 5.0, "b", -5.0)])
        scored = write(tables, first)
        newer = rows_of([("q2", "a", 5.0, "b", -5.0), ("q3", "a", 5.0, "b", -5.0)])
        half_scored = write_scored(write_triplets(tables, newer), newer.head(1), is_complete=False)

        curated = curate.run(half_scored, CurateConfig()).version

        assert half_scored.version > scored.version
        assert curated.scan().collect()["query"].to_list() == ["q1"]
        assert "triplets@1 has 2 newer rows that are not scored" in capsys.readouterr().err

    def test_an_incomplete_scoring_is_refused_with_what_is_missing_and_what_completes_it(self, tables):
        rows = made_up(4)
        scored = write_scored(write_triplets(tables, rows), rows.head(5), is_complete=False)

        with pytest.raises(UserError, match=r"7 of 12 rows of triplets@0 are not scored by judge@.* jobs score --from"):
            curate.run(scored, CurateConfig())
        assert tables.latest("curated_triplets") is None

    def test_partial_curates_what_is_scored(self, tables, capsys):
        rows = rows_of([("q1", "a", 5.0, "b", -5.0), ("q2", "a", 5.0, "b", -5.0)])
        scored = write_scored(write_triplets(tables, rows), rows.head(1), is_complete=False)

        done = curate.run(scored, CurateConfig(), partial=True)

        assert done.counts.rows() == [("docs", "kept", "", 1)]
        assert "1 of 2 rows of triplets@0 are not scored" in capsys.readouterr().err

    def test_a_partial_curation_says_so_in_its_commit_and_what_all_triplets_would_come_to(self, tables):
        rows = pl.concat([made_up(60, "docs"), scored_rows_of_bad_source(60)])
        part = rows.filter(in_share(0.5))
        scored = write_scored(write_triplets(tables, rows), part, is_complete=False)

        done = curate.run(scored, NO_SPLITS, partial=True)

        assert done.version.commit.result.part == f"{len(part)} of 240 triplets"
        all_scored = write_scored(tables.parse("triplets@0"), rows.filter(~in_share(0.5)))
        expected = curate.run(all_scored, NO_SPLITS).counts
        whole = {row["source"]: row for row in done.whole.to_dicts()}
        for source, num_queries in (("docs", 60), ("rotten", 60)):
            row, found = whole[source], expected.filter(pl.col("source") == source)
            assert row["queries"] == part.filter(pl.col("source") == source)["query_id"].n_unique() < num_queries
            assert row["triplets"] == found["rows"].sum()
            for outcome in ("kept", "corrected", "dropped"):
                share = found.filter(pl.col("outcome") == outcome)["rows"].sum() / row["triplets"]
                assert row[f"{outcome}_low"] <= share <= row[f"{outcome}_high"]
                assert row[f"{outcome}_low"] <= row[outcome] <= row[f"{outcome}_high"]
        assert 0.05 < whole["rotten"]["dropped_high"] - whole["rotten"]["dropped_low"] < 0.5
        assert tables.latest("curated_triplets").commit.result.part is None
        assert curate.run(scored, NO_SPLITS, partial=True, dry_run=True).whole.equals(done.whole)

    def test_a_share_beside_rows_of_an_older_version_is_the_random_part(self, tables, capsys):
        rows = made_up(40)
        write(tables, rows)
        newer = made_up(40, "wiki")
        grown = write_triplets(tables, newer)
        drawn = pl.concat([rows, newer]).filter(in_share(0.3))
        scored = write_scored(grown, newer.filter(in_share(0.3)), share=0.3)

        whole = curate.run(scored, NO_SPLITS, partial=True, dry_run=True).whole

        assert whole["rows"].sum() == len(drawn)
        assert whole["triplets"].to_list() == [120, 120]
        unfinished = write_scored(write_triplets(tables, made_up(9, "more")), made_up(1, "more"), is_complete=False)
        assert curate.run(unfinished, NO_SPLITS, partial=True, dry_run=True).whole["rows"].sum() == len(drawn)
        alone = Tables.at(f"{tables.uri}_alone")
        write_scored(write_triplets(alone, made_up(3)), made_up(1), is_complete=False)
        unfinished = write_scored(write_triplets(alone, newer), newer.head(3), is_complete=False)
        assert curate.run(unfinished, NO_SPLITS, partial=True, dry_run=True).whole is None
        assert "no random part" in capsys.readouterr().err

    def test_of_several_complete_teachers_one_must_be_given(self, tables):
        rows = [("q", "a", 5.0, "b", -5.0)]
        triplets = write_triplets(tables, rows_of(rows))
        write_scored(triplets, rows_of(rows))
        scored = write_scored(triplets, rows_of(rows, teacher="other@0123456789ab"))

        with pytest.raises(UserError, match=rf"2 teachers; choose one with --teacher {JUDGE} or --teacher other@"):
            curate.run(scored, CurateConfig())
        assert tables.latest("curated_triplets") is None
        given = curate.run(scored, CurateConfig(), teacher=JUDGE).version.scan().collect()
        assert given["teacher"].to_list() == [JUDGE]

    def test_a_teacher_that_only_began_leaves_the_complete_one(self, tables):
        rows = rows_of([("q", "a", 5.0, "b", -5.0), ("q2", "a", 5.0, "b", -5.0)])
        triplets = write_triplets(tables, rows)
        write_scored(triplets, rows)
        begun = rows.head(1).with_columns(teacher=pl.lit("other@0123456789ab"))
        scored = write_scored(triplets, begun, is_complete=False)

        assert curate.run(scored, CurateConfig()).version.scan().collect()["teacher"].unique().to_list() == [JUDGE]

    def test_a_teacher_without_scores_is_refused_with_those_that_have(self, tables):
        scored = write(tables, made_up(1))

        with pytest.raises(UserError, match=f"no scores by 'nobody'; it has scores by {JUDGE}"):
            curate.run(scored, CurateConfig(), teacher="nobody")

    def test_a_share_of_the_queries_is_curated_and_said_to_be_one(self, tables, capsys):
        rows = made_up(2)
        scored = write_scored(write_triplets(tables, rows), rows.head(3), share=0.5)

        done = curate.run(scored, CurateConfig())

        assert done.counts["rows"].sum() == 3
        assert "curating the 0.5 of the queries" in capsys.readouterr().err

    def test_scores_beyond_a_completed_share_are_incomplete(self, tables):
        rows = made_up(2)
        scored = write_scored(write_triplets(tables, rows), rows.head(3), share=0.5)
        further = write_scored(scored.tables.parse("triplets@0"), rows.tail(1), is_complete=False)

        with pytest.raises(UserError, match=r"2 of 6 rows of triplets@0 are not scored.*--partial"):
            curate.run(further, CurateConfig())


ROTTEN = [("q1", "a", -5.0, "b", -3.0), ("q2", "c", -5.0, "d", -3.0), ("q3", "e", 5.0, "f", -3.0)]


def test_losing_more_than_max_drop_share_is_refused_and_nothing_is_written(tables):
    scored = write(tables, rows_of(ROTTEN))

    with pytest.raises(UserError, match=r"drop 66.7% of 3 rows, more .* 50.0% \(docs: teacher_prefers_negative 2\)"):
        curate.run(scored, CurateConfig())

    assert tables.latest("curated_triplets") is None
    assert tables.latest("dropped_triplets") is None
    assert not list(Path(tables.path("curated_triplets")).glob("*.parquet"))


def test_a_dry_run_counts_and_writes_nothing(tables, capsys):
    scored = write(tables, rows_of(ROTTEN))

    done = curate.run(scored, CurateConfig(), dry_run=True)

    assert done.version is None
    assert done.counts.rows() == [("docs", "kept", "", 1), ("docs", "dropped", "teacher_prefers_negative", 2)]
    assert "would be refused" in capsys.readouterr().err
    assert tables.names() == ["triplets", "scored_triplets"]


def test_texts_of_the_named_beir_folders_leave_training(tables, tmp_path):
    folder = tmp_path / "tiny_set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d1", "title": "The", "text": "answer, 42."}) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "What is it?"}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    rows = [("what is IT", "a", 5.0, "b", -5.0), ("q", "The answer: 42", 5.0, "b", -5.0), ("q", "a", 5.0, "b", -5.0)]

    done = curate.run(write(tables, rows_of(rows)), CurateConfig(evaluation_sets=[str(folder)], max_drop_share=1))

    assert done.counts.rows() == [("docs", "kept", "", 1), ("docs", "dropped", "text_in_evaluation_set", 2)]
    assert done.version.commit.result.evaluation_sets[0].startswith("beir/tiny_set@")


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(ValueError, match=r"dev_share 0.5 \+ test_share 0.5 leave nothing to train on"):
        CurateConfig(dev_share=0.5, test_share=0.5)


def test_splits_are_those_of_the_normalised_query(tables):
    curated = curate.run(write(tables, made_up()), HALF).version.scan().collect()

    expected = [split_of_text(query, HALF.dev_share, HALF.test_share) for query in curated["query"]]
    assert curated["split"].to_list() == expected
    assert curated["query_id"].to_list() == [text_id(query) for query in curated["query"]]


def test_a_curation_says_on_a_line_what_it_did_and_in_a_notebook_by_source(tables):
    done = curate.run(write(tables, made_up(60, "<b>docs")), CurateConfig(max_drop_share=0.4, test_share=0.0))

    assert repr(done) == "<curation curated_triplets@0: 60 kept, 120 corrected, 0 dropped>"
    html = done._repr_html_()
    assert html.startswith("<div>&lt;curation curated_triplets@0: 60 kept, 120 corrected, 0 dropped&gt;</div><pre>")
    assert "&lt;b&gt;docs  180   33.3%  120        0        " in html
    assert html.count("<") == 4


def test_a_dry_run_and_a_part_in_memory_say_what_they_did():
    frame = pl.DataFrame({"query": ["a", "b"]})
    dry = curate.Curated(
        None, pl.DataFrame({"source": ["a"], "outcome": ["dropped"], "reason": ["r"], "rows": [1_200]})
    )

    assert repr(dry) == "<curation (a dry run): 0 kept, 0 corrected, 1,200 dropped>"
    assert repr(curate.Curation(frame, frame[:1])) == "<curation: 2 kept or corrected, 1 dropped>"
