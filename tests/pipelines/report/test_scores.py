"""What teachers said, in numbers: bins hold every row, and two teachers' agreement is an independent reference's."""

import pytest
import scipy.stats

from pipelines.inspection.sources import about_sources
from pipelines.report.scores import BINS, QUANTITIES, agreement, score_figures
from pipelines.report.subject import Subject
from tests.reported import JUDGE, OTHER, SCORES, reported

ROWS = 40


def test_every_scored_row_stands_in_one_bin_of_each_quantity(subject):
    found = score_figures(subject, ["rotten"])
    totals = {key: rows["rows"].sum() for key, rows in found.bins.group_by("teacher", "source", "quantity")}

    assert set(totals) == {
        (t, s, q) for t in (JUDGE, OTHER) for s in ("rotten", None) for q in ("positive", "negative", "margin")
    }
    assert {totals[key] for key in totals if key[1] == "rotten"} == {ROWS}
    assert {totals[key] for key in totals if key[1] is None} == {2 * ROWS}
    assert found.bins.group_by("teacher", "quantity", "low").len().height <= 6 * BINS
    margins = found.bins.filter(teacher=JUDGE, source="rotten", quantity="margin").select("low", "high", "rows").rows()
    assert [rows for _, _, rows in margins] == [26, 14]  # of -8 and of -0.5
    assert all(low - 1e-9 <= value < high for (low, high, _), value in zip(margins, (-8, -0.5), strict=True))


def test_means_and_contradictions_are_counted_by_source(subject):
    of_rotten = score_figures(subject, []).sources.filter(teacher=JUDGE, source="rotten").row(0, named=True)
    pairs = [SCORES["rotten"](number) for number in range(ROWS)]

    assert of_rotten["margin_mean"] == pytest.approx(sum(positive - negative for positive, negative in pairs) / ROWS)
    assert of_rotten["contradicted"] == ROWS
    assert (of_rotten["margin_min"], of_rotten["margin_max"]) == (-8.0, -0.5)


def test_what_the_teacher_contradicts_is_one_number_here_by_sources_and_by_sql(tmp_path, monkeypatch):
    """Level ones, rows whose negative was promoted and rows without a score are what three rules could differ in."""
    scores = [(1.0, 1.0), (1.0, 2.0), (None, 2.0), (3.0, 1.0), (-4.0, 4.0)]
    monkeypatch.setitem(SCORES, "rotten", lambda number: scores[number])
    root = reported(tmp_path, len(scores), with_model=False)
    found = score_figures(Subject.find(root.tables, root.curated), []).sources.filter(teacher=JUDGE, source="rotten")

    by_sources = about_sources(root.curated).filter(source="rotten")["disagreement"].item()
    sql = "SELECT sum(CASE WHEN negative_score > positive_score THEN 1 ELSE 0 END) FROM self WHERE source = 'rotten'"
    scored = root.tables.newest("scored_triplets").scan().filter(teacher=JUDGE)
    assert (found["contradicted"].item(), found["scored"].item()) == (2, 4)
    assert by_sources == 2 / 4
    assert scored.sql(sql).collect().item() == 2


def test_a_row_that_could_not_be_scored_is_counted_and_in_no_bin(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, "rotten", lambda number: (None, 1.0) if number == 0 else (2.0, 1.0))
    root = reported(tmp_path, 4, with_model=False)
    found = score_figures(Subject.find(root.tables, root.curated), [])

    of_judge = found.teachers.filter(teacher=JUDGE).row(0, named=True)
    assert (of_judge["rows"], of_judge["scored"]) == (12, 11)
    assert found.bins.filter(teacher=JUDGE, quantity="margin")["rows"].sum() == 11


def test_agreement_is_spearmans_correlation_of_the_margins(subject):
    told = agreement(subject, [JUDGE, OTHER])
    rows = subject.scored.scan().select("triplet_id", "teacher", margin=QUANTITIES["margin"]).collect()
    wide = rows.pivot("teacher", index="triplet_id", values="margin")
    margins, others = wide[JUDGE].to_list(), wide[OTHER].to_list()

    assert told.teachers == (JUDGE, OTHER)
    assert (told.triplets, told.share) == (3 * ROWS, 1.0)
    assert told.margin_correlation == pytest.approx(scipy.stats.spearmanr(margins, others).statistic, abs=1e-6)
    same = [(one > 0) == (other > 0) for one, other in zip(margins, others, strict=True)]
    assert told.same_sign == pytest.approx(sum(same) / len(same))
    assert told.cells["rows"].sum() == 3 * ROWS
    assert told.cells.select("first", "second").max().row(0) == pytest.approx((0.95, 0.95))
    apart = [row["apart"] for row in told.examples]
    assert apart == sorted(apart, reverse=True)
    assert len({row["query_id"] for row in told.examples}) == len(apart) == 5


def test_one_teacher_agrees_with_nobody(subject):
    assert agreement(subject, [JUDGE]) is None
