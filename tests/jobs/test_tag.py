"""`tag` as a user types it: names that serve in the place of TABLE@VERSION."""

import json

import pytest

from pipelines import curate
from pipelines.storage import Tables
from tests.curated_versions import HALF
from tests.in_process import run_jobs
from tests.scored_versions import scored_rows, write_scored, write_triplets


@pytest.fixture
def run(tmp_path, capsys):
    """Run a command on a root with two curations; gives code, stdout and stderr."""
    tables = Tables.at(str(tmp_path / "tables"))
    rows = scored_rows([(f"query {number}", "a", 5.0, "b", -5.0) for number in range(8)])
    scored = write_scored(write_triplets(tables, rows), rows)
    for share in (0.5, 0.4):
        curate.run(scored, HALF.model_copy(update={"test_share": share}))

    def call(*words):
        return run_jobs(*words, "--tables", tables.uri), *capsys.readouterr()

    return call


def test_a_tag_is_made_listed_taken_for_a_version_and_removed(run):
    assert run("tag", "first", "curated_triplets@0", "--note", "shipped")[:2] == (0, "curated_triplets@0\n")

    (listed,) = json.loads(run("tag", "--json")[1])
    assert (listed["tag"], listed["version"], listed["note"]) == ("first", "curated_triplets@0", "shipped")
    code, out, _ = run("history", "first")
    assert (code, out.split()[0]) == (0, "curated_triplets@0")
    assert run("diff", "first", "curated_triplets@1")[0] == 0
    assert json.loads(run("query", "SELECT COUNT(*) AS n FROM curated_triplets", "--at", "first", "--json")[1])
    assert run("tag", "again", "first")[1] == "curated_triplets@0\n"
    assert run("tag", "--remove", "first")[:2] == (0, "curated_triplets@0\n")
    assert [tag["tag"] for tag in json.loads(run("tag", "--json")[1])] == ["again"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tag", "first"], "expected `python -m jobs tag NAME TABLE@VERSION"),
        (["tag", "first", "curated_triplets@7"], "curated_triplets@7 does not exist"),
        (["tag", "first", "nothing"], "'nothing' is no table version; expected TABLE@VERSION"),
        (["tag", "first", "curated_triplets@0", "--remove", "other"], "--remove NAME alone"),
        (["tag", "--remove", "first"], "there is no tag 'first'"),
        (["tag", "triplets", "curated_triplets@0"], "can be no tag"),
        (["history", "first"], "'first' is no table"),
    ],
)
def test_what_is_no_tag_is_refused_with_what_was_expected(run, words, told):
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert told in err
