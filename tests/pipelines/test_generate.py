"""generate against a real server that fails, mumbles and refuses: each passage once, each failure with its reason."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

from pipelines import generate
from pipelines.erasure import erase
from pipelines.generation.config import GenerateConfig
from pipelines.inspection.graph import files_of
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.storage.commits import GenerationResult
from pipelines.teachers.config import TeacherConfig
from tests.llm_endpoint import Faults, serving
from tests.tiny import WORDS, edit_weights, poison, tiny_bi_encoder

REPOSITORY = Path(__file__).parents[2]
PRICE = (0.15, 0.60)


def write_passages(path, number, first=0):
    with path.open("w") as file:
        for seed in range(first, first + number):
            draw = random.Random(seed)
            words = " ".join(draw.choices(WORDS, k=draw.randint(20, 60)))
            file.write(json.dumps({"text": words, "external_id": seed}) + "\n")
    return str(path)


def config(server, **values):
    return GenerateConfig(endpoint=server.url, model="rules", **{"price_per_million": PRICE, **values})


def rows_of(tables):
    return tables.latest("generated_queries").scan().collect()


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def test_each_passage_has_one_row_and_each_failure_its_reason(tables, tmp_path, capsys):
    faults = Faults(fails=0.1, malformed=0.1, refused=0.05, rejected=0.05)
    with serving(faults) as server:
        told = config(server)
        found = generate.run(tables, [write_passages(tmp_path / "p.jsonl", 150)], told)
        rows = rows_of(tables)

        assert (len(rows), rows["passage_id"].n_unique(), found.left) == (150, 150, 0)
        assert [file.path for file in files_of(found.version.commit)] == [str(tmp_path / "p.jsonl")]
        counts = dict(rows["reason"].value_counts().iter_rows())
        assert set(counts) == {None, "malformed_answer", "refused", "rejected"}
        assert server.ledger.failures.total() > 15
        assert set(server.ledger.written()) == {1}
        assert rows["calls"].sum() == server.ledger.answered.total()
        assert rows["input_tokens"].sum() == server.ledger.input_tokens
        assert rows["output_tokens"].sum() == server.ledger.output_tokens
    mumbled = rows.filter(pl.col("reason").is_in(["malformed_answer", "refused"]))
    assert mumbled.select(pl.col("answer", "detail").null_count()).row(0) == (0, 0)
    assert rows.filter(pl.col("reason") == "rejected")["detail"].str.contains("too long for the model").all()
    pairs = rows.filter(pl.col("reason").is_null())
    assert pairs.select((pl.col("positive_grade") >= 2).all(), (pl.col("negative_grade") <= 1).all()).row(0) == (1, 1)
    assert pairs["relevant_ids"].list.contains(pairs["positive_id"]).all()
    assert f"150 passages: {counts[None]} with a pair" in capsys.readouterr().err


def test_the_same_again_asks_nothing_and_gives_the_same_version(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 20)
    with serving() as server:
        first = generate.run(tables, [passages], config(server))
        asked = server.ledger.requests
        again = generate.run(tables, [passages], config(server, concurrency=2))

        assert server.ledger.requests == asked
    assert first == again
    result = first.version.commit.reports(GenerationResult)
    assert (result.complete.passages, Path(result.ingested_files[0].path).name) == (20, "p.jsonl")


def test_more_passages_are_added_and_searched_with_the_others(tables, tmp_path):
    first, second = write_passages(tmp_path / "a.jsonl", 20), write_passages(tmp_path / "b.jsonl", 20, first=20)
    with serving() as server:
        generate.run(tables, [first], config(server))
        generate.run(tables, [first, second], config(server))

        assert set(server.ledger.written()) == {1}
    rows = rows_of(tables)
    assert (len(rows), rows["passage_id"].n_unique()) == (40, 40)


def test_a_better_passage_than_the_seed_becomes_the_positive(tables, tmp_path):
    """The seed's query asks for five words; another passage shows them within what the model is shown of it."""
    filler = " ".join(["low"] * 60)
    texts = ["alligators butterfly crocodiles dragonflies elephants " + filler, f"{filler} {filler} {filler}"]
    texts[1] += " alligators butterfly crocodiles dragonflies elephants"
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with serving() as server:
        generate.run(tables, [str(tmp_path / "p.jsonl")], config(server, candidate_chars=300))
    rows = {row["passage"]: row for row in rows_of(tables).to_dicts()}

    assert rows[texts[1]]["positive"] == texts[0]
    assert (rows[texts[1]]["is_relabelled"], rows[texts[0]]["is_relabelled"]) == (True, False)


def test_without_ranking_the_seed_is_the_positive_and_one_call_does(tables, tmp_path):
    with serving() as server:
        generate.run(tables, [write_passages(tmp_path / "p.jsonl", 10)], config(server, ranker="seed"))

        assert server.ledger.requests == 10
    rows = rows_of(tables)
    assert rows["positive"].to_list() == rows["passage"].to_list()
    assert rows.select(pl.col("negative", "positive_grade", "relevant_ids").null_count()).row(0) == (10, 10, 10)


def test_a_teacher_ranks_at_no_price(tables, tmp_path):
    folder = tiny_bi_encoder(tmp_path / "teacher")
    teacher = TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64)
    with serving() as server:
        told = config(server, ranker="teacher", same_within=0.0, candidates=5).ranked_by(teacher)
        generate.run(tables, [write_passages(tmp_path / "p.jsonl", 20)], told)

        assert server.ledger.requests == 20
    rows = rows_of(tables)
    encode = SentenceTransformer(folder, device="cpu").encode
    query, positive, negative = (
        encode(rows[column].to_list(), normalize_embeddings=True) for column in ("query", "positive", "negative")
    )
    np.testing.assert_allclose(rows["positive_score"], (query * positive).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(rows["negative_score"], (query * negative).sum(axis=1), atol=1e-5)
    assert (rows["positive_score"] > rows["negative_score"]).all()
    assert 0 < rows["is_relabelled"].sum() < 20, "some of them, as the teacher's weights are random"
    assert rows["relevant_ids"].to_list() == [[positive_id] for positive_id in rows["positive_id"]]


def test_what_the_teacher_cannot_score_has_its_reason(tables, tmp_path):
    """The weights of one word are no numbers: no pair with it has a score."""
    folder = poison(tiny_bi_encoder(tmp_path / "teacher"))
    texts = [f"{word} poison {word}" for word in WORDS[:5]] + [f"{word} {word}" for word in WORDS[5:10]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    teacher = TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64)
    with serving() as server:
        told = config(server, ranker="teacher", candidates=1).ranked_by(teacher)
        generate.run(tables, [str(tmp_path / "p.jsonl")], told)
    reasons = {row["passage"]: (row["reason"], row["detail"]) for row in rows_of(tables).to_dicts()}

    assert {text: reason for text, (reason, _) in reasons.items()} == {
        text: "not_scored" if "poison" in text else None for text in texts
    }
    assert reasons[texts[0]][1].startswith("of 1 candidates: ")


def test_a_teacher_that_cannot_read_is_refused_before_anything_is_paid(tables, tmp_path):
    folder = tiny_bi_encoder(tmp_path / "teacher")
    edit_weights(folder, lambda weights: [one.fill_(float("nan")) for one in weights.values()])
    teacher = TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64)
    with serving() as server:
        told = config(server, ranker="teacher").ranked_by(teacher)
        with pytest.raises(UserError, match="its weights are damaged"):
            generate.run(tables, [write_passages(tmp_path / "p.jsonl", 5)], told)

        assert server.ledger.requests == 0


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(tables, tmp_path, capsys):
    passages = write_passages(tmp_path / "p.jsonl", 40)
    with serving() as server:
        whole = generate.ask_price(tables, [passages], config(server), sample=40).cost.value
        stopped = generate.run(tables, [passages], config(server, max_cost=whole / 2))
        spent = config(server).cost(*rows_of(tables).select(pl.col("input_tokens", "output_tokens").sum()).row(0))

        assert whole * 0.4 < spent <= whole * 0.51, "but for one that is dearer than all before"
        assert 10 < stopped.left < 30
        assert len(rows_of(tables)) == 40 - stopped.left
        assert "is spent, and" in capsys.readouterr().err
        assert generate.run(tables, [passages], config(server, max_cost=whole * 1.01)).left == 0
    assert len(rows_of(tables)) == 40


def test_so_many_passages_are_part_of_more(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 30)
    with serving() as server:
        generate.run(tables, [passages], config(server, max_passages=10))
        first = set(rows_of(tables)["passage_id"])
        generate.run(tables, [passages], config(server, max_passages=15))
        second = set(rows_of(tables)["passage_id"])

    assert (len(first), len(second)) == (10, 15)
    assert first < second


def test_a_budget_cannot_be_held_where_tokens_are_not_counted(tables, tmp_path, capsys):
    passages = write_passages(tmp_path / "p.jsonl", 10)
    with serving(Faults(counts_tokens=False)) as server:
        with pytest.raises(UserError, match="does not say how many tokens"):
            generate.run(tables, [passages], config(server, max_cost=1.0))
        generate.run(tables, [passages], config(server))

        assert rows_of(tables)["input_tokens"].null_count() == 10
        assert "; the endpoint does not say how many tokens that took" in capsys.readouterr().err
        server.faults.counts_tokens, tokens = True, server.ledger.input_tokens
        more = write_passages(tmp_path / "more.jsonl", 2, first=10)
        generate.run(tables, [passages, more], config(server))
    told = capsys.readouterr().err
    assert f"; at least {server.ledger.input_tokens - tokens:,} input" in told
    assert "which cost at least 0.0" in told


def test_of_a_beir_folder_the_corpus_is_asked_for(tables, tmp_path):
    (tmp_path / "qrels").mkdir()
    write_passages(tmp_path / "corpus.jsonl", 1)
    with pytest.raises(UserError, match=r"is a BEIR folder.*give .*/corpus.jsonl"):
        generate.run(tables, [str(tmp_path)], GenerateConfig(endpoint="http://localhost:1/v1", model="rules"))


@pytest.mark.parametrize(
    ("faults", "kind", "told"),
    [
        (Faults(status=401), UserError, "expected a key that it takes"),
        (Faults(status=404), UserError, "expected the base URL with its /v1"),
        (Faults(rejected=1.0), UserError, "expected a server that takes generate.answer_format"),
        (Faults(fails=1.0), OSError, "no query was written"),
    ],
)
def test_what_concerns_all_is_told_at_the_first_and_nothing_is_written(tables, tmp_path, faults, kind, told):
    with serving(faults) as server:
        with pytest.raises(kind, match=told):
            generate.run(tables, [write_passages(tmp_path / "p.jsonl", 30)], config(server, max_retries=0))

        assert server.ledger.requests == 1
    assert tables.latest("generated_queries") is None


def test_an_outage_ends_it_and_what_was_answered_stays(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 120)
    with serving(Faults(latency_s=0.01)) as server:

        def down():
            while server.ledger.answered.total() < 40:
                time.sleep(0.005)
            server.faults.fails = 1.0

        breaks = threading.Thread(target=down)
        breaks.start()
        with pytest.raises(OSError, match="32 passages in a row were not answered"):
            generate.run(tables, [passages], config(server, max_retries=0))
        breaks.join()
        rows = rows_of(tables)
        assert len(rows) - 16 < rows["reason"].null_count() >= 10, "failures before the last answer alone"

        server.faults.fails = 0.0
        generate.run(tables, [passages], config(server))
    assert (len(rows_of(tables)), rows_of(tables)["passage_id"].n_unique()) == (120, 120)


def test_the_next_run_asks_again_those_whose_endpoint_failed_and_sums_what_they_cost(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 60)
    with serving(Faults(fails=0.1, seed=3)) as server:
        first = generate.run(tables, [passages], config(server, max_retries=0))
        failed = rows_of(tables).filter(pl.col("reason") == "endpoint_error")
        assert 0 < len(failed) < 20
        again = generate.run(tables, [passages], config(server))

        assert again.version.version > first.version.version
        rows = rows_of(tables)
        assert (len(rows), rows["reason"].null_count()) == (60, 60)
        assert rows["input_tokens"].sum() == server.ledger.input_tokens


def test_two_runs_at_once_leave_one_row_each(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 40)
    with serving(Faults(latency_s=1.0)) as server:  # long beside a commit: what the other has finished is known in time
        told = config(server, concurrency=4, commit_every_s=0.05)
        runs = [threading.Thread(target=generate.run, args=(tables, [passages], told)) for _ in range(2)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        asked = server.ledger.answered.total()
    rows = rows_of(tables)

    assert (len(rows), rows["passage_id"].n_unique()) == (40, 40)
    assert asked < 1.6 * 80, "of two calls for a passage; each left out most of what the other had finished"


def test_what_was_begun_elsewhere_asks_nothing_more(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 5)
    with serving() as server:
        with pytest.raises(UserError, match="has passages without a query, but it was begun"):
            generate.run(tables, [passages], config(server), closed="it was begun")
        version = generate.run(tables, [passages], config(server)).version
        assert generate.run(tables, [passages], config(server), closed="it was begun").version == version


def test_an_erased_passage_is_not_asked_again_and_those_that_lost_their_row_by_it_are(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 20)
    with serving() as server:
        generate.run(tables, [passages], config(server))
        gone = rows_of(tables).filter(pl.col("external_id") == "3")["passage_id"].item()
        erase.run(tables, ["3"])
        left = len(rows_of(tables))
        server.ledger.answered.clear()
        generate.run(tables, [passages], config(server))

        assert len(server.ledger.written()) == 19 - left
    rows = rows_of(tables)
    assert (len(rows), rows["passage_id"].n_unique()) == (19, 19)
    assert gone not in {*rows["passage_id"], *rows["positive_id"], *rows["negative_id"]}


class Driver:
    """`python -m jobs generate` in a process of its own."""

    def __init__(self, tables, passages, server, **fields):
        fields = {"endpoint": server.url, "model": "rules", "commit_every_s": 0.2, **fields}
        sets = [f"--set=generate.{name}={value}" for name, value in fields.items()]
        command = [sys.executable, "-m", "jobs", "generate", "--tables", tables.uri, "--input", passages, *sets]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | {"SOME_KEY": "sk-very-secret"}, stderr=subprocess.PIPE, text=True
        )

    def after(self, server, answered):
        """Once so many questions were answered."""
        until = time.monotonic() + 120
        while server.ledger.answered.total() < answered:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.002)
        return self.process

    def end(self):
        _, told = self.process.communicate(timeout=240)
        return self.process.returncode, told


def killed(tables, passages, server, points, **fields):
    """Drivers that are killed once so many more questions were answered, and one that ends."""
    for more in points:
        driver = Driver(tables, passages, server, **fields)
        driver.after(server, server.ledger.answered.total() + more).kill()
        assert driver.end()[0] == -signal.SIGKILL
    code, told = Driver(tables, passages, server, **fields).end()
    assert code == 0, told
    return told


def test_a_killed_run_goes_on_and_a_key_is_left_nowhere(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 100)
    with serving(Faults(fails=0.1, malformed=0.1, key="sk-very-secret")) as server:
        told = killed(tables, passages, server, [60], api_key_variable="SOME_KEY", concurrency=8)

        again = sum(times - 1 for times in server.ledger.answered.values())
        assert again < 2 * (8 + 60), "what was committed is not asked again"
    rows = rows_of(tables)
    assert (len(rows), rows["passage_id"].n_unique()) == (100, 100)
    assert set(rows["reason"]) == {None, "malformed_answer"}
    written = [path.read_bytes() for path in Path(tables.uri).rglob("*") if path.is_file()]
    assert not any(b"very-secret" in content for content in [*written, told.encode()])


def test_ctrl_c_commits_what_was_answered(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 200)
    with serving(Faults(latency_s=0.05)) as server:
        driver = Driver(tables, passages, server, concurrency=8, commit_every_s=100)
        driver.after(server, 40).send_signal(signal.SIGINT)
        code, told = driver.end()

        assert (code, "interrupted;" in told, "Traceback" in told) == (3, True, False)
        assert server.ledger.answered.total() - 3 * 8 <= rows_of(tables)["calls"].sum() > 10


def test_sigterm_finishes_and_commits_what_is_under_way(tables, tmp_path):
    passages = write_passages(tmp_path / "p.jsonl", 200)
    with serving(Faults(latency_s=0.05)) as server:
        driver = Driver(tables, passages, server, concurrency=8, commit_every_s=100)
        driver.after(server, 40).send_signal(signal.SIGTERM)
        code, told = driver.end()

        rows = rows_of(tables)
        assert (code, "interrupted;" in told) == (3, True)
        assert 15 < len(rows) < 200
        assert rows["calls"].sum() == server.ledger.answered.total(), "nothing that was answered is lost"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(int(os.environ.get("KILLS_SEED", 0)), int(os.environ.get("KILLS_SEED", 0)) + 2))
def test_five_kills_a_tenth_failing_and_a_tenth_malformed_cost_what_the_dry_run_said(tables, tmp_path, seed):
    """KILLS_SEED=7 python -m pytest -m slow tests/pipelines/test_generate.py -s"""
    number, draw = 1_000, random.Random(seed)
    passages = write_passages(tmp_path / "p.jsonl", number, first=1_000 * seed)
    with serving(Faults(fails=0.1, malformed=0.1, refused=0.01, latency_s=0.005, seed=seed)) as server:
        said = generate.ask_price(tables, [passages], config(server), sample=50)
        server.ledger.answered.clear()
        server.ledger.input_tokens = server.ledger.output_tokens = 0
        killed(tables, passages, server, [draw.randint(1, 400) for _ in range(5)])
        paid = config(server).cost(server.ledger.input_tokens, server.ledger.output_tokens)
        again, failures = server.ledger.answered.total() - len(server.ledger.answered), dict(server.ledger.failures)
    rows = rows_of(tables)
    cost = config(server).cost(*rows.select(pl.col("input_tokens", "output_tokens").sum()).row(0))
    print(
        f"\nseed {seed}: {len(rows)} rows of {number} passages, {dict(rows['reason'].value_counts().iter_rows())}, "
        f"{failures} on the way; dry run {said.cost.value:.4f} +- {said.cost.error:.4f}, recorded {cost:.4f}, "
        f"paid {paid:.4f}: {again} answers twice"
    )

    assert (len(rows), rows["passage_id"].n_unique()) == (number, number)
    assert rows.filter(pl.col("positive").is_null())["reason"].null_count() == 0
    assert set(rows["reason"]) <= {None, "malformed_answer", "refused"}
    assert abs(cost / said.cost.value - 1) < 0.1
    assert abs(paid / said.cost.value - 1) < 0.25
