"""Who pins what: tags, models, trainings under way and the newest versions, each with all that those were made of."""

import json
from pathlib import Path

import pytest

from pipelines import curate
from pipelines.checkpoints.run_folder import IDENTITY, RUN, RunFolder
from pipelines.inspection.pins import pins
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.commits import TrainingResult
from pipelines.storage.tags import add_tag
from pipelines.storage.vacuum import plan
from schemas import Models
from tests.aged import age
from tests.curated_versions import HALF
from tests.rows import frame_of
from tests.scored_versions import scored_rows, write_scored, write_triplets


@pytest.fixture
def tables(tmp_path):
    """Three curations of two growing triplets versions, older than any retention."""
    tables = Tables.at(str(tmp_path / "tables"))
    for number in range(2):
        rows = scored_rows([(f"query {number} {one}", "a", 5.0, "b", -5.0) for one in range(4)])
        scored = write_scored(write_triplets(tables, rows), rows)
        curate.run(scored, HALF)
    curate.run(scored, HALF.model_copy(update={"test_share": 0.4}))
    age(tables, 100)
    return tables


def pinned(tables):
    return {pin.name: sorted(map(str, pin.versions)) for pin in pins(tables)}


def write_model(tables, *inputs, name="small"):
    row = {"model_id": f"{name}@{'0' * 12}", "name": name, "curated_version": str(inputs[0]), "recipe": "{}"}
    result = TrainingResult(model=row["model_id"])
    with new_version(tables, Models, Lineage("distill", list(inputs), Config(), result)) as writer:
        writer.write(frame_of(Models, row))


FIRST = ["curated_triplets@0", "dropped_triplets@0", "scored_triplets@1", "triplets@0"]
SECOND = ["curated_triplets@1", "dropped_triplets@1", "scored_triplets@3", "triplets@1"]
THIRD = ["curated_triplets@2", "dropped_triplets@2", "scored_triplets@3", "triplets@1"]


def test_each_pin_holds_its_versions_and_what_they_were_made_from(tables):
    assert pinned(tables) == {"newest": THIRD}
    add_tag(tables.parse("curated_triplets@0"), "golden")
    write_model(tables, tables.parse("curated_triplets@1"))
    begun = RunFolder(tables, "begun")
    begun.write(IDENTITY, {"curated": tables.parse("curated_triplets@1").identity(), "vectors": None, "config": {}})

    found = pinned(tables)

    assert found.pop("newest") == sorted([*THIRD, "models@0", *(one for one in SECOND if one not in THIRD)])
    assert found == {"tag golden": FIRST, f"model small@{'0' * 12}": SECOND, "training begun": SECOND}


def test_a_trainings_folder_pins_until_its_row_does(tables):
    curated = tables.parse("curated_triplets@0")
    folder = RunFolder(tables, "small")
    folder.write(IDENTITY, {"curated": curated.identity(), "vectors": None, "config": {}})
    folder.write(RUN, {"weights_sha256": "0" * 64})
    assert pinned(tables)["training small"] == FIRST

    write_model(tables, curated)

    assert "training small" not in pinned(tables)
    assert pinned(tables)[f"model small@{'0' * 12}"] == FIRST


def test_what_is_pinned_is_what_a_vacuum_leaves(tables):
    add_tag(tables.parse("curated_triplets@0"), "golden")

    plan(tables, pins(tables), 24 * 3600).remove()

    assert [tables.parse(f"curated_triplets@{number}").unreadable is None for number in range(3)] == [True, False, True]
    assert all(tables.parse(version).unusable is None for version in [*FIRST, *THIRD])


def test_a_pin_of_a_table_that_was_made_anew_keeps_nothing_and_is_said(tables, capsys):
    add_tag(tables.parse("triplets@0"), "golden")
    write_model(tables, tables.parse("curated_triplets@1"))
    for name in ("triplets", "curated_triplets"):
        log = Path(tables.path(name), "_delta_log", f"{0:020}.json")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            line.get("metaData", {}).update(id="another")
        log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    found = pinned(tables)

    assert found["tag golden"] == []
    assert f"model small@{'0' * 12}" not in found
    told = capsys.readouterr().err
    assert "tag golden keeps nothing of triplets@0: triplets@0 was of the Delta table" in told
    assert "keeps nothing: curated_triplets@1 was of the Delta table" in told
