"""What `score` prints where Ray runs: here, after the tests that no refusal starts it (test_hostile_values.py)."""

import json

import pytest

from pipelines.storage import Tables
from tests.tiny import tiny_cross_encoder


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_from_takes_all_that_a_command_printed_and_a_dry_run_prints_a_price(run, tmp_path):
    rows = [{"query": f"question {number}", "positive": "a", "negative": "b"} for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run("ingest", "--input", tmp_path / "rows.jsonl")
    teacher = tiny_cross_encoder(tmp_path / "judge")
    printed = "ingested_files@0\ntriplets@0"
    settings = [f"--set=score.teacher={teacher}", "--set=score.max_tokens=64", "--price-per-hour", "2.5"]

    code, out, err = run("score", "--from", printed, "--dry-run", *settings)

    assert (code, "nothing is written (dry run)" in err) == (0, True)
    header, *lines = [line.split() for line in out.splitlines()]
    assert header == ["what", "done", "left", "how", "known"]
    assert ["actors", "time", "actor", "hours", "cost"] in lines
    told = json.loads(run("score", "--dry-run", "--json", *settings)[1])
    assert [one["actors"] for one in told["forecasts"]] == [2, 4, 8]
    assert Tables.at(str(tmp_path / "tables")).latest("scored_triplets") is None
