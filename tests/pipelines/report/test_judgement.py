"""What a curation did: a few whole rows of each reason, the same each time; corrected ones before and after."""

import polars as pl
import pytest

from pipelines.report.judgement import DRAWN, EXAMPLES, examples, outcomes
from pipelines.report.subject import Subject
from tests.reported import reported

ROWS = 30


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    root = reported(
        tmp_path_factory.mktemp("judgement"), ROWS, lambda plain: plain + " " * 3_000 + "end", with_model=False
    )
    return Subject.find(root.tables, root.curated)


@pytest.fixture(scope="module")
def found(subject):
    return examples(subject, outcomes(subject).reasons)


def test_counts_add_up_and_the_worst_source_and_the_commonest_reason_come_first(subject):
    told = outcomes(subject)

    assert told.rows() == 3 * ROWS == sum(told.rows(one) for one in ("kept", "corrected", "dropped"))
    assert told.sources["source"][0].startswith("rotten")
    assert told.reasons["rows"].is_sorted(descending=True)
    assert told.splits["rows"].sum() == told.rows("kept") + told.rows("corrected")


def test_every_reason_has_its_rows_with_the_smallest_ids_and_their_whole_lengths(subject, found):
    assert set(found) == set(outcomes(subject).reasons["reason"])
    dropped = subject.dropped.scan().collect()
    for reason, rows in found.items():
        of_reason = dropped.filter(drop_reason=reason).sort("triplet_id")
        if len(of_reason):
            assert [row["triplet_id"] for row in rows] == of_reason["triplet_id"].head(EXAMPLES).to_list()
        assert 1 <= len(rows) <= EXAMPLES
        assert all(len(row["query"]) <= 2_000 < row["query_chars"] for row in rows)


def test_a_swapped_row_is_shown_as_it_came_beside_what_it_became(found):
    row = found["swapped"][0]

    assert (row["before"]["positive"], row["before"]["negative"]) == (row["negative"], row["positive"])
    assert row["before"]["triplet_id"] == row["original_triplet_id"]
    assert row["before"]["positive_score"] < row["before"]["negative_score"]


def test_a_draw_of_many_rows_reads_a_share_that_holds_enough(monkeypatch, subject):
    monkeypatch.setattr("pipelines.report.judgement.DRAWN", 10)
    reasons = pl.DataFrame({"outcome": ["corrected"], "reason": ["swapped"], "rows": [10_000]})
    everything = outcomes(subject).reasons.filter(reason="swapped")

    assert DRAWN > 8 * EXAMPLES
    assert len(examples(subject, everything)["swapped"]) == EXAMPLES
    assert len(examples(subject, reasons)["swapped"]) < EXAMPLES  # a thousandth of the ids: that few rows are not in it
