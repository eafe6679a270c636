"""`vacuum`, `compact` and `erase` as a user types them: dry where they are said to be, refused where they must be."""

import json
import re
from pathlib import Path

import pytest

from pipelines import curate
from pipelines.storage import Tables
from tests.aged import age
from tests.curated_versions import HALF
from tests.in_process import run_jobs
from tests.scored_versions import scored_rows, write_scored, write_triplets


@pytest.fixture
def tables(tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    for number in range(2):
        rows = scored_rows([(f"query {number}", "a", 5.0, "b", -5.0)], external_id=f"person {number}")
        scored = write_scored(write_triplets(tables, rows), rows)
        curate.run(scored, HALF)
    age(tables, 3)
    return tables


@pytest.fixture
def run(tables, capsys):
    def call(*words):
        return run_jobs(*words, "--tables", tables.uri), *capsys.readouterr()

    return call


def files_under(tables):
    return sorted(path for path in Path(tables.uri).rglob("*.parquet"))


def test_vacuum_says_what_it_would_delete_and_deletes_it_when_told(run, tables):
    before = files_under(tables)

    code, out, err = run("vacuum", "--retention-days", "2", "--json")
    told = json.loads(out)
    assert (code, told["deleted"], files_under(tables)) == (0, False, before)
    assert {one["table"]: one["files_to_remove"] for one in told["tables"] if one["files_to_remove"]} == {
        "curated_triplets": 1
    }
    assert "1 file, " in err
    assert "to do it: add --yes" in err
    code, _, err = run("vacuum", "--yes")
    assert (code, files_under(tables)) == (0, before), "within seven days"
    assert re.search(r"nothing to delete yet: the 7 days of retention keep .*, the first until 20.* UTC\n", err)

    assert run("vacuum", "--yes", "--retention-days", "2")[0] == 0
    assert len(files_under(tables)) == len(before) - 1
    assert tables.parse("curated_triplets@0").unreadable is not None
    assert "nothing to delete: each file is of a newest version or pinned\n" in run("vacuum", "--retention-days=2")[2]


def test_a_root_without_tables_is_refused(tmp_path, capsys):
    for command in ("vacuum", "compact"):
        assert run_jobs(command, "--tables", tmp_path / "none") == 2
        assert "there is no table under" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_compact_prints_the_versions_that_there_are_then(run):
    code, out, err = run("compact", "triplets", "curated_triplets")

    assert (code, out) == (0, "triplets@2\ncurated_triplets@1\n")
    assert "triplets@2: 2 files of triplets@1, now 1" in err
    assert "curated_triplets@1: nothing to merge" in err


def test_erase_counts_and_then_removes(run, tables, tmp_path):
    (tmp_path / "ids").write_text("person 0\n")
    words = ["erase", "--external-ids", str(tmp_path / "ids"), "--json"]

    planned = json.loads(run(*words, "--dry-run")[1])
    assert tables.latest("triplets").num_rows() == 2
    done = json.loads(run(*words)[1])

    assert (planned.pop("erased"), done.pop("erased")) == (False, True)
    assert planned == done
    assert tables.latest("triplets").num_rows() == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["vacuum", "--retention-days", "0"], "expected at least 1"),
        (["vacuum", "--retention-days", "soon"], "--retention-days is 'soon'; expected a number"),
        (["compact", "nothing"], "'nothing' is no table"),
        (["compact", "models"], "there is no table models under"),
        (["compact", "--target-mb", "-1"], "expected megabytes above 0"),
        (["erase"], "--external-ids is missing"),
        (["erase", "--external-ids", "nowhere.txt"], "there is no file nowhere.txt; expected one external id a line"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_touched(run, tables, words, told):
    before = sorted(Path(tables.uri).rglob("*"))

    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert told in err
    assert sorted(Path(tables.uri).rglob("*")) == before
