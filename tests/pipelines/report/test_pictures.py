"""Which pictures there are, and what their sentences say: a threshold only where it holds, a comparison only of two."""

import json
from pathlib import Path

import pytest

from pipelines.report import pictures
from pipelines.report.gather import gather
from pipelines.report.subject import Subject
from tests.reported import JUDGE, MODEL, OTHER, evaluate, reported, write_model

NEWER = f"newer@{'0' * 12}"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two models, of one and two layers."""
    root = reported(tmp_path_factory.mktemp("pictures"), 12)
    write_model(root.tables, root.curated, NEWER)
    evaluate(root.tables, root.curated, NEWER)
    for layers, model in enumerate((MODEL, NEWER), start=1):
        folder = Path(root.tables.path("models", model.partition("@")[0], "model"))
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"num_hidden_layers": layers, "hidden_size": 8}))
        (folder / "model.safetensors").write_bytes(b"0" * 1_000_000 * layers)
    return gather(Subject.find(root.tables, root.curated))


def test_models_of_other_sizes_are_compared_by_layers_and_by_bytes(report):
    assert {one: tuple(size) for one, size in report.sizes.items()} == {
        MODEL: (1, 8, 1_000_000),
        NEWER: (2, 8, 2_000_000),
    }
    assert [one.title for one in pictures.sizes(report)] == ["nDCG@10 by layers", "nDCG@10 by MB of weights"]


def test_models_of_one_size_are_not(report):
    alike = report._replace(sizes=dict.fromkeys(report.sizes, report.sizes[MODEL]))

    assert pictures.sizes(alike) == []


def test_the_rules_thresholds_are_drawn_for_the_teacher_that_they_are_of(report):
    of_judge = pictures.thresholds(report.subject, "margin", JUDGE)

    assert [(line.value, line.name) for line in of_judge] == [
        (-0.5, "swap_margin -0.5"),
        (0.5, "min_teacher_margin 0.5"),
    ]
    assert [line.name for line in pictures.thresholds(report.subject, "score", JUDGE)] == [
        "irrelevant_below 0",
        "relevant_from 0",
    ]
    assert [line.value for line in pictures.thresholds(report.subject, "margin", OTHER)] == [0.0]
    assert pictures.thresholds(report.subject, "score", OTHER) == []


def test_scores_and_margins_of_all_sources_stand_over_one_axis_each_with_the_rules_thresholds(report):
    drawn = pictures.multiples(report.subject, report.outcomes, report.scores)

    assert [source for source, _ in drawn] == report.outcomes.sources["source"].to_list()
    for place, (kind, lines) in enumerate((("Scores", [0, 0]), ("Margins", [-0.5, 0.5]))):
        of_kind = [pair[place] for _, pair in drawn]
        assert [one.title for one in of_kind] == [f"{kind} of {source}" for source, _ in drawn]
        specs = [one.chart.to_dict() for one in of_kind]
        assert len({str(spec["layer"][0]["encoding"]["x"]["scale"]["domain"]) for spec in specs}) == 1
        rules = [spec["datasets"][layer["data"]["name"]][0]["value"] for spec in specs for layer in spec["layer"][1:]]
        assert sorted(rules) == sorted(lines * 3)


def test_a_sources_scores_are_drawn_by_passage_and_hold_every_row(report):
    spec = dict(pictures.multiples(report.subject, report.outcomes, report.scores))["clean"][0].chart.to_dict()
    points = spec["datasets"][spec["layer"][0]["data"]["name"]]

    # 4 to 8 for a positive, -3 to -5 for a negative: see tests/reported.py
    assert {one["series"] for one in points if one["rows"] and one["at"] > 0} == {"positives"}
    assert {one["series"] for one in points if one["rows"] and one["at"] < 0} == {"negatives"}
    assert sum(one["rows"] for one in points) == 2 * 12


def test_bars_of_reasons_have_the_colours_of_their_outcomes(report):
    bars = pictures.reason_counts(report.outcomes).chart.to_dict()["layer"][0]["encoding"]

    assert bars["color"]["field"] == "outcome"
    assert set(bars["color"]["scale"]["domain"]) == set(report.outcomes.reasons["outcome"])


def test_each_term_of_a_training_has_its_curve_and_padding_is_drawn_where_there_is_some(report):
    titles = [one.title for one in pictures.training(report.curves[MODEL])]

    assert titles == [
        f"{what} of small" for what in ("Loss", "Term info_nce", "Term vectors", "Gradient norm", "Padding")
    ]


def test_a_sentence_about_the_worst_source_compares_it_only_where_there_are_others(report):
    sources = report.outcomes.sources

    assert pictures.outcome_shares(sources).sentence == (
        "Of rotten, 0.0% of 12 rows stayed as they came; the other sources fared better."
    )
    assert pictures.outcome_shares(sources.head(1)).sentence == "Of rotten, 0.0% of 12 rows stayed as they came."
