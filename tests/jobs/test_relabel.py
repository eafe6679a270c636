"""The command relabel as a user types it: what it prints, its exit codes, and what comes after it."""

import json

import pytest

from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.llm_endpoint import serving
from tests.scored_versions import scored_rows, write_scored, write_triplets

FREE = ["--set=curate.test_share=0.2", "--set=curate.dev_share=0", "--set=curate.max_drop_share=1"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command of ours on a root of scored triplets; gives its code, stdout and stderr."""
    monkeypatch.setenv("TABLES", str(tmp_path / "tables"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    negatives = [("a red fish named {}", 5.2), ("a blue duck {}", 4.8), ("a stone {}", -6.0)]
    rows = scored_rows(
        (f"red fish {n}", f"the red fish {n} swims", 5.0, text.format(n), score)
        for n in range(15)
        for text, score in negatives
    )
    write_scored(write_triplets(Tables.at(str(tmp_path / "tables")), rows), rows)

    def call(server, *words):
        named = [f"--set=relabel.endpoint={server.url}", "--set=relabel.model=rules"] if server else []
        return run_jobs(*words, *named), *capsys.readouterr()

    return call


def test_the_dry_run_says_how_many_for_what_price_and_a_spent_budget_is_exit_code_3(command, tmp_path):
    price = ["--price-per-million", "0.15,0.60"]
    with serving() as server:
        unasked = command(server, "relabel", "--dry-run", "--sample", "0", *price)[1].splitlines()[-1]
        assert (unasked.split()[0], "as long as it may be" in unasked, server.ledger.requests) == ("cost", True, 0)
        code, out, err = command(server, "relabel", "--dry-run", "--json", *price)
        told = json.loads(out)
        assert (code, told["pairs"], told["left"], told["sampled"]) == (0, 30, 30, 30)
        assert "30 of 45 rows, of 15 queries" in err
        assert not (tmp_path / "tables" / "passage_judgements").exists()

        half = f"--set=relabel.max_cost={told['cost'] / 2}"
        assert command(server, "relabel", *price, half)[:2] == (3, "passage_judgements@0\n")
        code, out, err = command(server, "relabel", *price)
    assert (code, out) == (0, "passage_judgements@2\n")
    assert f"which cost {told['cost']:,.4f}" in err


def test_curate_takes_what_it_prints_and_everything_else_goes_on_with_it(command, tmp_path):
    assert command(None, "curate", *FREE)[:2] == (0, "curated_triplets@0\n")
    with serving() as server:
        version = command(server, "relabel")[1].strip()
    code, out, err = command(None, "curate", "--judgements", version, "--by", "reason", *FREE)
    assert (code, out, "relabelled" in err) == (0, "curated_triplets@1\n", True)
    assert version in command(None, "history", "curated_triplets@1")[1]
    assert "curated_triplets@1" in command(None, "history", version, "--downstream")[1]
    assert "relabelled" in command(None, "diff", "curated_triplets@0", "curated_triplets@1", "--json")[1]
    assert command(None, "sources")[0] == 0
    assert command(None, "report", "--to", str(tmp_path / "page.html"))[0] == 0
    assert "relabelled" in (tmp_path / "page.html").read_text()
    sql = "SELECT verdict, COUNT(*) AS n FROM passage_judgements GROUP BY verdict ORDER BY verdict"
    assert [row["n"] for row in json.loads(command(None, "query", sql, "--json")[1])] == [15, 15]
    assert command(None, "compact")[0] == 0
    assert command(None, "vacuum", "--yes")[0] == 0
    tables = Tables.at(str(tmp_path / "tables"))
    assert tables.parse(version).num_rows() == tables.latest("passage_judgements").num_rows() == 30
    assert command(None, "curate", "--judgements", "passage_judgements", *FREE)[0] == 2
    code, _, err = command(None, "curate", "--set=curate.judge=rules", *FREE)
    assert code == 2
    assert "curate.judge = 'rules': expected NAME@ and 12 hex digits, as the column judge of passage_judgements" in err
    code, _, err = command(None, "curate", "--judgements", "triplets@0", *FREE)
    assert (code, "expected a version of passage_judgements" in err) == (2, True)
