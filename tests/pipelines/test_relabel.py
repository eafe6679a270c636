"""relabel against a real server that fails and mumbles: each suspected pair once, and what curation makes of it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from pipelines import curate, relabel
from pipelines.curate import CurateConfig
from pipelines.judging.config import RelabelConfig
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.storage.commits import JudgingResult
from tests.llm_endpoint import Faults, serving
from tests.scored_versions import scored_rows, write_scored, write_triplets

REPOSITORY = Path(__file__).parents[2]
PRICE = (0.15, 0.60)
ALL = CurateConfig(test_share=0, dev_share=0, max_drop_share=1)


def rows_of(number, first=0):
    """Of each query four rows: a negative that answers it, one near to the positive that does not, and two far away."""
    rows = []
    for n in range(first, first + number):
        query, positive = f"red fish {n}", f"the red fish {n} swims"
        for negative, score in (
            (f"a red fish named {n}", 5.2),
            (f"a blue duck {n}", 4.8),
            (f"a tree {n}", -5.0),
            (f"a stone {n}", -6.0),
        ):
            rows.append((query, positive, 5.0, negative, score))
    return scored_rows(rows)


def write(tables, rows):
    return write_scored(write_triplets(tables, rows), rows)


def config(server, **values):
    return RelabelConfig(endpoint=server.url, model="rules", **{"price_per_million": PRICE, **values})


def judged(tables):
    return tables.latest("passage_judgements").scan().collect()


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def test_each_suspected_pair_has_one_row_and_each_failure_its_reason(tables, capsys):
    scored = write(tables, rows_of(60))
    with serving(Faults(fails=0.1, malformed=0.1, rejected=0.05)) as server:
        done = relabel.run(scored, config(server))
        rows = judged(tables)

        assert set(server.ledger.judged()) == {1}
        assert rows["calls"].sum() == server.ledger.answered.total()
        assert rows["input_tokens"].sum() == server.ledger.input_tokens
    assert (len(rows), rows.select("query_id", "passage_id").n_unique(), done.left) == (120, 120, 0)
    assert set(rows["reason"]) == {None, "malformed_answer", "rejected"}
    said = rows.filter(pl.col("verdict").is_not_null())
    assert said.filter(pl.col("verdict") == "relevant")["passage"].str.starts_with("a red fish").all()
    assert said.filter(pl.col("verdict") == "not_relevant")["passage"].str.starts_with("a blue duck").all()
    assert rows.filter(pl.col("reason") == "malformed_answer")["answer"].null_count() == 0
    result = done.version.commit.reports(JudgingResult)
    assert (result.complete.pairs, result.complete.scored.version) == (120, str(scored))
    err = capsys.readouterr().err
    assert "120 of 240 rows, of 60 queries, have a negative" in err
    assert "120 pairs to judge" in err


def test_the_same_again_asks_nothing_and_more_rows_ask_only_theirs(tables):
    scored = write(tables, rows_of(10))
    with serving() as server:
        first = relabel.run(scored, config(server))
        assert relabel.run(scored, config(server, concurrency=2)) == first
        assert server.ledger.requests == 20

        relabel.run(write(tables, rows_of(5, first=10)), config(server))
        assert server.ledger.requests == 20 + 10
        assert relabel.run(scored, config(server, negatives_per_query=1)).version != first.version
        assert server.ledger.requests == 30, "another choice of pairs, all of which were judged"


def test_another_prompt_is_another_judge_with_rows_of_its_own(tables):
    scored = write(tables, rows_of(5))
    with serving() as server:
        relabel.run(scored, config(server))
        relabel.run(scored, config(server, passage_chars=100))
    rows = judged(tables)

    assert (len(rows), rows["judge"].n_unique()) == (20, 2)


def test_a_dry_run_writes_nothing_and_says_what_the_run_costs(tables):
    scored = write(tables, rows_of(30))
    with serving() as server:
        said = relabel.ask_price(scored, config(server), sample=30)
        assert tables.latest("passage_judgements") is None
        assert server.ledger.requests == said.sampled == 30
        relabel.run(scored, config(server))
    cost = config(server).cost(*judged(tables).select(pl.col("input_tokens", "output_tokens").sum()).row(0))

    assert (said.left, said.calls.value) == (60, 60)
    assert said.cost.value == pytest.approx(cost, rel=0.02)
    assert 0.2 < said.share < 0.8, "half of them are relevant"


def test_a_budget_stops_and_a_larger_one_goes_on(tables, capsys):
    scored = write(tables, rows_of(20))
    with serving() as server:
        whole = relabel.ask_price(scored, config(server), sample=40).cost.value
        stopped = relabel.run(scored, config(server, max_cost=whole / 2))
        assert 10 < stopped.left < 30
        assert "of relabel.max_cost" in capsys.readouterr().err
        assert relabel.run(scored, config(server, max_cost=whole * 1.01)).left == 0
    assert len(judged(tables)) == 40


def test_nothing_suspected_and_nobody_named_are_refused(tables):
    scored = write(tables, rows_of(3))
    with serving() as server:
        with pytest.raises(UserError, match=r"none is to be judged; expected a larger relabel\.suspect_margin"):
            relabel.run(scored, config(server, suspect_margin={"cross_encoder": -3.0}))
        assert server.ledger.requests == 0
    with pytest.raises(UserError, match=r"--set relabel\.model=NAME"):
        relabel.run(scored, RelabelConfig(endpoint="http://host/v1"))


def test_curation_takes_the_verdicts_and_names_the_version_and_the_judge(tables):
    scored = write(tables, rows_of(10))
    before = curate.run(scored, ALL)
    with serving() as server:
        judgements = relabel.run(scored, config(server)).version
        judge = config(server).who
    after = curate.run(scored, ALL, judgements=judgements)

    assert before.counts.select("outcome", "reason", "rows").rows() == [
        ("kept", "", 20),
        ("corrected", "promoted", 20),  # the teacher takes the near one for a positive, too
    ]
    assert after.counts.select("outcome", "reason", "rows").rows() == [
        ("kept", "", 20),
        ("corrected", "relabelled", 10),
        ("dropped", "margin_too_small", 10),
    ]
    commit = after.version.commit
    assert [one.version for one in commit.inputs] == [str(scored), "triplets@0", str(judgements)]
    assert commit.config["judge"] == judge
    kept = after.version.scan().collect()
    relabelled = kept.filter(pl.col("correction") == "relabelled")
    assert relabelled["positive"].str.starts_with("a red fish").all()
    assert curate.find(scored, ALL.model_copy(update={"judge": judge})) == after.version
    assert curate.find(scored, ALL) == before.version


def test_a_judge_by_name_is_its_newest_complete_version_and_one_without_is_refused(tables):
    scored = write(tables, rows_of(5))
    nobody = r"curate\.judge is m@0123456789ab, by whom no version of passage_judgements has complete judgements; "
    with pytest.raises(UserError, match=f"{nobody}found none by anybody; .*`python -m jobs relabel`"):
        curate.run(scored, CurateConfig(judge="m@0123456789ab"))
    with serving() as server:
        cost = relabel.ask_price(scored, config(server), sample=10).cost.value
        relabel.run(scored, config(server, max_cost=cost / 2))
        told = ALL.model_copy(update={"judge": (who := config(server).who)})
        with pytest.raises(
            UserError, match=r"found some that it did not complete; .*--judgements passage_judgements@0"
        ):
            curate.run(scored, told)
        with pytest.raises(UserError, match=f"{nobody}found some by {who} \\(not completed\\); expected who"):
            curate.run(scored, CurateConfig(judge="m@0123456789ab"))
        done = relabel.run(scored, config(server))
    with pytest.raises(UserError, match=f"{nobody}found some by {who}; expected who completed them"):
        curate.run(scored, CurateConfig(judge="m@0123456789ab"))
    assert str(curate.run(scored, told).version.commit.inputs[2].version) == str(done.version)
    with pytest.raises(UserError, match=r"by m@0123456789ab, whom curate\.judge names; .* by rules@\w+: expected"):
        curate.run(scored, CurateConfig(judge="m@0123456789ab"), judgements=done.version)
    with pytest.raises(UserError, match="ask_teacher is false"):
        curate.run(scored, CurateConfig(ask_teacher=False), judgements=done.version)


def test_two_runs_at_once_leave_one_row_each(tables):
    scored = write(tables, rows_of(30))
    with serving(Faults(latency_s=0.05)) as server:
        told = config(server, concurrency=4, commit_every_s=0.05)
        runs = [threading.Thread(target=relabel.run, args=(scored, told)) for _ in range(2)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    rows = judged(tables)

    assert (len(rows), rows.select("query_id", "passage_id").n_unique()) == (60, 60)


def test_a_killed_run_goes_on_with_what_was_committed(tables):
    write(tables, rows_of(60))
    with serving(Faults(malformed=0.1, latency_s=0.05)) as server:
        fields = {"endpoint": server.url, "model": "rules", "commit_every_s": 0.2, "concurrency": 8}
        sets = [f"--set=relabel.{name}={value}" for name, value in fields.items()]
        command = [sys.executable, "-m", "jobs", "relabel", "--tables", tables.uri, *sets]
        driver = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ.copy(), stderr=subprocess.PIPE)
        until = time.monotonic() + 120
        while tables.latest("passage_judgements") is None:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < until
            time.sleep(0.002)
        driver.kill()
        assert (driver.wait(), driver.stderr.close()) == (-signal.SIGKILL, None)
        committed = len(judged(tables))
        asked = server.ledger.answered.total()
        done = relabel.run(tables.latest("scored_triplets"), RelabelConfig(**fields))

        assert 0 < committed < 120
        assert server.ledger.answered.total() <= asked + 8 + 120 - committed, "what was committed is not asked again"
    rows = judged(tables)
    assert (len(rows), rows.select("query_id", "passage_id").n_unique(), done.left) == (120, 120, 0)
    assert set(rows["reason"]) == {None, "malformed_answer"}
