"""What moved between two curations: given versions, expected counts."""

import json
from pathlib import Path

import pytest

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.curation.rules import BiEncoderThresholds, CrossEncoderThresholds
from pipelines.inspection import diff
from pipelines.stage.errors import UserError
from pipelines.storage import Invocation, Tables
from tests.scored_versions import scored_rows, write_scored, write_triplets

ROWS = [
    ("q1", "a", 5.0, "b", -5.0),  # kept by both
    ("q2", "a", 5.0, "b", 2.0),  # kept, then too close
    ("q3", "a", -5.0, "b", 5.0),  # swapped by both
    ("q4", "a", -1.0, "b", 2.0),  # swapped, then no positive is found irrelevant: promoted, without a negative left
]
LAX = CurateConfig(max_drop_share=1, test_share=0, dev_share=0)
STRICT = CurateConfig(
    max_drop_share=1,
    test_share=0,
    dev_share=0,
    cross_encoder=CrossEncoderThresholds(min_teacher_margin=4.0, irrelevant_below=-2.0),
)


def evaluation_set(folder: Path, text: str) -> str:
    """A BEIR folder with one query and one passage."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus", "queries"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"_id": "1", "text": f"{text} {name}"}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    return str(folder)


@pytest.fixture
def tables(tmp_path) -> Tables:
    return Tables.at(str(tmp_path / "tables"))


def write(tables: Tables, rows):
    frame = scored_rows(rows)
    return write_scored(write_triplets(tables, frame), frame)


def test_every_row_is_counted_by_source_and_its_outcome_before_and_after(tables):
    scored = write(tables, ROWS)
    before, after = (curate.run(scored, config).version for config in (LAX, STRICT))

    assert diff.diff(before, after).rows() == [
        ("docs", "corrected:swapped", "corrected:swapped", 1),
        ("docs", "corrected:swapped", "dropped:no_negative_left", 1),
        ("docs", "kept", "dropped:margin_too_small", 1),
        ("docs", "kept", "kept", 1),
    ]


def test_rows_of_only_one_version_are_absent_from_the_other(tables):
    first = curate.run(write(tables, ROWS[:1]), LAX).version
    newer = scored_rows(ROWS[2:3])
    second = curate.run(write_scored(write_triplets(tables, newer), newer), LAX).version

    assert diff.diff(first, second).rows() == [
        ("docs", "absent", "corrected:swapped", 1),
        ("docs", "kept", "kept", 1),
    ]


def test_a_version_does_not_differ_from_itself_however_it_is_cut(tables, monkeypatch):
    curated = curate.run(write(tables, ROWS), STRICT).version
    whole = diff.diff(curated, curated)

    monkeypatch.setattr(diff, "ROWS_PER_RANGE", 1)

    assert diff.diff(curated, curated).equals(whole)
    assert (whole["before"] == whole["after"]).all()
    assert whole["rows"].sum() == len(ROWS)


def test_another_table_is_refused(tables):
    scored = write(tables, ROWS)

    with pytest.raises(UserError, match=r"scored_triplets@1 is no curation; expected a version of curated"):
        diff.diff(scored, scored)


def test_the_rules_that_differ_are_named_with_both_values(tables):
    scored = write(tables, ROWS)
    told = LAX.model_copy(update={"bi_encoder": BiEncoderThresholds(min_teacher_margin=0.1)})
    noted = Tables.at(tables.uri, Invocation(note="as lax as can be")).parse(str(scored))
    first = curate.run(noted, told).version
    newer = scored_rows([("q5", "a", 5.0, "b", -5.0)])
    second = curate.run(write_scored(write_triplets(tables, newer), newer), STRICT).version

    assert diff.rules(first, second).rows() == [
        ("note", "as lax as can be", None),
        ("scored_triplets", "scored_triplets@1", "scored_triplets@3"),
        ("triplets", "triplets@0", "triplets@1"),
        ("curate.cross_encoder.min_teacher_margin", "0.5", "4.0"),
        ("curate.cross_encoder.irrelevant_below", "0.0", "-2.0"),
    ]
    assert diff.rules(second, second).is_empty()


def test_an_evaluation_set_whose_texts_are_others_is_another_rule(tables, tmp_path):
    scored, versions = write(tables, ROWS), []
    for text in ("elsewhere", "elsewhere else"):
        told = LAX.model_copy(update={"evaluation_sets": (evaluation_set(tmp_path / "set", text),)})
        versions.append(curate.run(scored, told).version)

    ((rule, before, after),) = diff.rules(*versions).rows()
    assert (rule, before[:9], after[:9]) == ("evaluation_sets", "beir/set@", "beir/set@")
