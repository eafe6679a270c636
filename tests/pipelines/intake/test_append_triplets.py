"""Commits of one ingestion: in an order that a crash leaves explained, on top of what another has added meanwhile."""

import pytest

from pipelines.intake import append_triplets
from pipelines.storage import Tables
from pipelines.storage.commits import IntakeResult
from tests.ingested import counts, row, rows_of, run, write


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


class Crash(Exception):
    pass


@pytest.mark.parametrize("crash_at", ["quarantined_rows", "triplets", "ingested_files"])
def test_a_crash_between_commits_is_healed_by_running_again(tables, tmp_path, monkeypatch, crash_at):
    path = write(tmp_path, *[row(f"q{i}") for i in range(9)], row(" "))
    commit = append_triplets.new_version

    def crashing(tables, table, *arguments, **options):
        if table.table_name() == crash_at:
            raise Crash
        return commit(tables, table, *arguments, **options)

    monkeypatch.setattr(append_triplets, "new_version", crashing)
    with pytest.raises(Crash):
        run(tables, path)
    monkeypatch.setattr(append_triplets, "new_version", commit)
    version = run(tables, path)

    assert version.version == 0
    assert len(rows_of(tables, "triplets")) == 9
    assert len(rows_of(tables, "quarantined_rows")) == 1
    assert counts(tables) == [[10, 9, 0, 1]]


def test_two_ingests_at_once_add_no_triplet_twice(tables, tmp_path, monkeypatch, capsys):
    run(tables, write(tmp_path, row("first"), name="first.jsonl"))
    slow, fast = write(tmp_path, row(), row("r"), name="slow.jsonl"), write(tmp_path, row(), name="fast.jsonl")
    commit = append_triplets.new_version

    def overtaken(tables, table, *arguments, **options):
        if table.table_name() == "triplets":
            monkeypatch.setattr(append_triplets, "new_version", commit)
            run(tables, fast)
        return commit(tables, table, *arguments, **options)

    monkeypatch.setattr(append_triplets, "new_version", overtaken)
    run(tables, slow)

    assert "moved on meanwhile" in capsys.readouterr().err
    assert sorted(query for (query,) in rows_of(tables, "triplets", "query")) == ["first", "q", "r"]
    assert counts(tables) == [[1, 1, 0, 0], [1, 1, 0, 0], [2, 1, 1, 0]]


def test_the_commit_carries_the_counts_of_its_files(tables, tmp_path):
    path = write(tmp_path, row())
    version = run(tables, path, licence="CC-BY-4.0")
    commit = version.commit

    assert commit.stage == "ingest"
    assert [(file.path, file.licence, file.triplets) for file in commit.reports(IntakeResult).ingested_files] == [
        (path, "CC-BY-4.0", 1)
    ]
