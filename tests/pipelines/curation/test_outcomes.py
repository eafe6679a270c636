"""Which dropped rows belong to which curation: told by the curation's id, whatever else was curated meanwhile."""

import polars as pl
import pytest

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.curation.outcomes import by_source, curation_of, dropped_by, total
from pipelines.inspection.diff import diff
from pipelines.inspection.queries import curation_counts
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from tests.scored_versions import scored_rows, write_scored, write_triplets

CONFIG = CurateConfig(test_share=0, dev_share=0, max_drop_share=1)
STRICT, MILD = "strict@0123456789ab", "mild@0123456789ab"


def judged(teacher: str, margin: float, num_weak: int):
    """Ten triplets, of which the teacher finds `num_weak` too close."""
    rows = [(f"query {n}", f"positive {n}", 3.0, f"negative {n}", 3.0 - margin * (n >= num_weak)) for n in range(10)]
    return scored_rows(rows, teacher=teacher)


@pytest.fixture
def two_curations(tmp_path):
    """Two teachers' scores of the same triplets, curated from the same version by the same config, one by one."""
    tables = Tables.at(str(tmp_path))
    triplets = write_triplets(tables, judged(STRICT, 5.0, 0))
    write_scored(triplets, judged(MILD, 5.0, 2))
    scored = write_scored(triplets, judged(STRICT, 5.0, 7))
    return [curate.run(scored, CONFIG, teacher=teacher).version for teacher in (MILD, STRICT)]


def test_each_curation_has_its_own_dropped_rows(two_curations):
    mild, strict = two_curations

    assert (curation_of(mild).teacher, curation_of(strict).teacher) == (MILD, STRICT)
    assert [str(dropped_by(version)) for version in two_curations] == ["dropped_triplets@0", "dropped_triplets@1"]
    for version, num_dropped in ((mild, 2), (strict, 7)):
        counts = curation_counts(version)
        assert counts.filter(counts["outcome"] == "dropped")["rows"].sum() == num_dropped
    moved = diff(mild, strict)
    assert moved["rows"].sum() == 10


def test_a_compacted_curation_is_still_that_curation(two_curations):
    _, strict = two_curations
    strict.tables.delta("curated_triplets").optimize.compact()
    strict.tables.delta("curated_triplets").vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)
    strict.tables.delta("curated_triplets").alter.set_table_properties({"delta.appendOnly": "false"})
    newest = strict.tables.latest("curated_triplets")

    assert newest.version > strict.version
    assert curation_of(newest) == curation_of(strict)
    assert dropped_by(newest) == dropped_by(strict)


def test_a_version_that_curate_did_not_write_is_refused(two_curations):
    tables = two_curations[0].tables

    with pytest.raises(UserError, match="scored_triplets@0 was not made by a curation"):
        curation_of(tables.parse("scored_triplets@0"))


def test_a_curation_whose_rows_another_program_changed_has_no_known_dropped_rows(two_curations):
    _, strict = two_curations
    strict.tables.delta("curated_triplets").delete("source = 'nowhere' OR true")
    newest = strict.tables.latest("curated_triplets")

    assert dropped_by(newest) is None
    with pytest.raises(UserError, match=r"curated_triplets@2 was made by another program \(DELETE\)"):
        curation_of(newest)
    told = r"curated_triplets@2 was made by another program \(DELETE\).*curated_triplets@1 is the newest other one"
    with pytest.raises(UserError, match=told):
        diff(newest, strict)


def test_sources_are_ordered_by_the_share_that_stayed_and_say_what_changed_most_rows():
    rows = [
        ("good", "kept", "", 90), ("good", "dropped", "too_long", 10),
        ("swapped", "kept", "", 1), ("swapped", "corrected", "swapped", 6), ("swapped", "dropped", "too_long", 3),
        ("gone", "dropped", "b", 2), ("gone", "dropped", "a", 2),
        ("small", "kept", "", 9), ("small", "dropped", "c", 1),
        ("clean", "kept", "", 5),
    ]  # fmt: skip
    counts = total([pl.DataFrame(rows, schema=["source", "outcome", "reason", "rows"], orient="row")])

    assert by_source(counts).rows() == [
        ("gone", 4, 0, 0, 4, "a"),
        ("swapped", 10, 1, 6, 3, "swapped"),
        ("good", 100, 90, 0, 10, "too_long"),
        ("small", 10, 9, 0, 1, "c"),
        ("clean", 5, 5, 0, 0, None),
    ]
