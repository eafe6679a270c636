"""What moved between two curations: counts that add up, and rows of each stream."""

import polars as pl

from pipelines import curate
from pipelines.report.gather import gather
from pipelines.report.movement import EXAMPLES_EACH, movement
from pipelines.report.page import render
from pipelines.report.subject import Subject
from tests.reported import CONFIG, JUDGE, Page, reported


def test_streams_add_up_and_each_has_rows_that_took_it(root):
    told = movement(Subject.find(root.tables, root.curated, root.before))

    assert told.stayed + told.moved == 120 == told.flows["rows"].sum()
    assert told.moved == told.by_source["moved"].sum() > 0
    streams = told.flows.filter(pl.col("before") != pl.col("after"))
    for before, after, rows in streams.iter_rows():
        of_stream = [row for row in told.examples if (row["before"], row["after"]) == (before, after)]
        assert len(of_stream) == min(rows, EXAMPLES_EACH)
    dropped = set(root.tables.parse("dropped_triplets@0").scan().collect()["triplet_id"])
    assert {row["triplet_id"] for row in told.examples if row["before"].startswith("dropped")} <= dropped


def test_a_row_that_one_curation_corrected_is_shown_as_it_was_and_as_it_is(tmp_path):
    root = reported(tmp_path, 6, with_model=False)
    config = CONFIG.model_copy(update={"corrections": ()})
    uncorrected = curate.run(root.tables.latest("scored_triplets"), config, teacher=JUDGE).version
    told = movement(Subject.find(root.tables, uncorrected, root.curated))

    corrected = [row for row in told.examples if row["before"] == "corrected:swapped"]
    assert len(corrected) == EXAMPLES_EACH
    for row in corrected:
        swapped = root.curated.scan().filter(original_triplet_id=row["triplet_id"]).collect().row(0, named=True)
        assert (row["was"]["positive"], row["was"]["triplet_id"]) == (swapped["positive"], swapped["triplet_id"])
        assert (row["is"]["positive"], row["is"]["negative"]) == (swapped["negative"], swapped["positive"])


def test_the_page_has_both_values_of_each_rule_that_differs(root):
    told, same = root.page(against=True), Subject.find(root.tables, root.curated, root.curated)

    assert "Rules that differ" in told.text
    assert "curate.cross_encoder.min_teacher_margin4.00.5" in "".join(told.text.split())  # three cells
    assert "Both went by the same rules, scores and teacher." in Page(render(gather(same))).text


def test_without_another_curation_nothing_moved(root):
    assert movement(Subject.find(root.tables, root.curated)) is None
