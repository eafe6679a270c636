"""What a commit says is read as one typed record, whoever wrote it and whenever."""

import json

import pytest

from pipelines.inspection.graph import made_from, upstream_of
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Invocation, Lineage, Tables, new_version
from pipelines.storage.commits import Commit, CurationResult, IngestedFile, IntakeResult, Record, ScoringResult
from schemas import Triplets
from tests.rows import frame_of


def append_one(tables, number, **lineage):
    with new_version(tables, Triplets, Lineage("ingest", [], Config(), **lineage)) as writer:
        writer.write(frame_of(Triplets, {"query": f"query {number}"}, source="docs"))
    return writer.version


def of_log(record, operation="WRITE"):
    return Commit.of_log({"version": 0, "operation": operation, "lineage": record})


def test_a_record_is_read_back_as_it_was_written():
    written = Commit(
        stage="ingest", note="é", result=IntakeResult(ingested_files=(IngestedFile(path="a.csv", rows=2),))
    )

    assert Commit.of_log({"operation": "WRITE", **written.custom_metadata()}) == written.model_copy(
        update={"operation": "WRITE"}
    )


def test_an_older_record_lacks_fields_and_a_newer_one_has_others():
    older = of_log(json.dumps({"stage": "score", "result": {"teacher": "judge@0123456789ab"}}))
    newer = of_log(json.dumps({"stage": "curate", "weather": "fine", "result": {"curation": "0" * 12, "mood": 1}}))
    unknown = of_log(json.dumps({"stage": "export", "result": {"formats": 3}}))

    assert older.reports(ScoringResult) == ScoringResult(teacher="judge@0123456789ab")
    assert (older.code.sources_digest, older.inputs) == ("", ())
    assert newer.reports(CurationResult).curation == "0" * 12
    assert (unknown.stage, unknown.result, unknown.is_ours) == ("export", Record(), True)


@pytest.mark.parametrize("record", ["", "null", "[1]", "no json", '{"stage": ["a", "list"]}', '{"inputs": 7}'])
def test_a_record_that_is_not_ours_is_someone_elses_commit(record):
    commit = of_log(record, operation="OPTIMIZE")

    assert (commit.is_ours, commit.operation, commit.keeps_rows) == (False, "OPTIMIZE", True)


def test_every_commit_carries_what_the_command_line_knows(tmp_path):
    tables = Tables.at(str(tmp_path), Invocation({"ingest": {}}, note="of the command"))

    assert append_one(tables, 0).commit.recipe == {"ingest": {}}
    assert append_one(tables, 1).commit.note == "of the command"
    assert append_one(tables, 2, note="of the stage").commit.note == "of the stage"


def test_each_version_has_its_own_commit_also_when_read_long_after(tmp_path):
    tables = Tables.at(str(tmp_path))
    for number in range(3):
        append_one(tables, number, note=f"commit {number}")

    assert [tables.parse(f"triplets@{number}").commit.note for number in range(3)] == [
        "commit 0",
        "commit 1",
        "commit 2",
    ]
    assert [version.commit.note for version in tables.parse("triplets@1").history()] == ["commit 1", "commit 0"]


def test_another_programs_compaction_is_looked_through_to_what_it_compacted(tmp_path):
    tables = Tables.at(str(tmp_path))
    append_one(tables, 0)
    ours = append_one(tables, 1)
    tables.delta("triplets").optimize.compact()
    compacted = tables.latest("triplets")
    tables.delta("triplets").alter.set_table_properties({"delta.appendOnly": "false"})
    newest = tables.latest("triplets")

    assert (compacted.version, newest.version) == (2, 3)
    assert newest.written() == compacted.written() == ours
    assert (compacted.commit.stage, compacted.commit.operation) == ("", "OPTIMIZE")
    assert [version.commit.stage for version in newest.history()] == ["", "", "ingest", "ingest"]
    assert made_from(newest) == ["triplets@2"]
    assert [str(version) for _, version in upstream_of(newest)] == [f"triplets@{n}" for n in (3, 2, 1, 0)]
    assert [version for version, _ in newest.results(IntakeResult)] == [ours, tables.parse("triplets@0")]


def test_rows_that_another_program_changed_are_not_taken_for_ours(tmp_path):
    tables = Tables.at(str(tmp_path))
    append_one(tables, 0)
    tables.delta("triplets").delete("source = 'docs'")

    with pytest.raises(UserError, match=r"triplets@1 was made by another program \(DELETE\).*history triplets"):
        tables.latest("triplets").written()


def test_an_entry_that_is_gone_from_the_log_hides_neither_older_nor_newer_ones(tmp_path):
    tables = Tables.at(str(tmp_path))
    for number in range(3):
        append_one(tables, number, note=f"commit {number}")
    tables.delta("triplets").create_checkpoint()
    (tmp_path / "triplets" / "_delta_log" / f"{1:020}.json").unlink()

    newest = tables.latest("triplets")
    assert [version.commit.note for version in newest.history()] == ["commit 2", "commit 0"]
    assert [str(version) for version in tables.parse("triplets@1").history()] == ["triplets@0"]
    for ask in (lambda: tables.parse("triplets@1").commit, tables.parse("triplets@1").written):
        with pytest.raises(UserError, match=r"triplets@1 has no commit in the table's log"):
            ask()
    assert newest.scan().collect().height == 3


@pytest.mark.parametrize("info", ["null", "[]", "7", '{"lineage": null}', '{"lineage": ' + '"' + "[" * 100_000 + '"}'])
def test_a_log_entry_of_any_shape_is_a_commit_of_someone_else(tmp_path, info):
    tables = Tables.at(str(tmp_path))
    append_one(tables, 0)
    entry = tmp_path / "triplets" / "_delta_log" / f"{0:020}.json"
    others = [line for line in entry.read_text().splitlines() if '"commitInfo"' not in line]
    entry.write_text("\n".join([f'{{"commitInfo":{info}}}', *others]))

    assert not tables.parse("triplets@0").commit.is_ours
