"""The command generate as a user types it: what it prints, its exit codes, and what comes after it."""

import json

import polars as pl
import pytest

from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.llm_endpoint import Faults, serving
from tests.tiny import tiny_bi_encoder


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command of ours under one root with a server; gives its code, stdout and stderr."""
    monkeypatch.setenv("TABLES", str(tmp_path / "tables"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    texts = [
        f"the {animal} number {number} swims in lake {number}" for number in range(15) for animal in ("fish", "duck")
    ]
    rows = [{"text": text, "external_id": number} for number, text in enumerate(texts)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def call(server, *words):
        named = [f"--set=generate.endpoint={server.url}", "--set=generate.model=rules"] if server else []
        given = ["--input", tmp_path / "notes.jsonl"] if words[0] == "generate" else []
        return run_jobs(*words, *given, *named), *capsys.readouterr()

    return call


def test_a_dry_run_writes_nothing_and_its_cost_is_that_of_the_run(command, tmp_path):
    price = ["--price-per-million", "0.15,0.60"]
    with serving(Faults(malformed=0.1)) as server:
        code, out, _ = command(server, "generate", "--dry-run", "--sample", "30", "--json", *price)
        told = json.loads(out)

        assert (code, told["passages"], told["left"], told["sampled"]) == (0, 30, 30, 30)
        assert not (tmp_path / "tables").exists()
        assert (told["input_tokens"], told["output_tokens"]) == (
            server.ledger.input_tokens,
            server.ledger.output_tokens,
        )
        code, out, err = command(server, "generate", *price)
        assert (code, out) == (0, "generated_queries@1\n")
        assert f"which cost {told['cost']:,.4f}" in err
        done = json.loads(command(server, "generate", "--dry-run", "--json", *price)[1])
    assert (done["done"], done["left"], done["cost"]) == (30, 0, 0.0)
    assert done["cost_spent"] == pytest.approx(told["cost"])


def test_a_dry_run_without_a_sample_asks_nothing(command):
    with serving() as server:
        code, out, _ = command(server, "generate", "--dry-run", "--sample", "0")

        assert (code, server.ledger.requests) == (0, 0)
    assert "4 characters a token" in out
    assert "at most" in out


def test_a_spent_budget_is_exit_code_3_with_the_version_so_far(command, tmp_path):
    with serving() as server:
        code, out, err = command(
            server, "generate", "--price-per-million", "0.15,0.60", "--set=generate.max_cost=0.003"
        )

        assert (code, out) == (3, "generated_queries@0\n")
        assert "the same command with a larger one goes on" in err
        assert command(server, "generate")[:2] == (0, "generated_queries@2\n")
    assert Tables.at(str(tmp_path / "tables")).latest("generated_queries").num_rows() == 30


def test_an_endpoint_that_is_not_there_is_exit_code_1_and_one_that_refuses_2(command):
    with serving() as server:
        pass
    code, _, err = command(server, "generate", "--set=generate.max_retries=0")
    assert (code, "no query was written" in err, "the same command may be run again" in err) == (1, True, True)
    with serving(Faults(key="sk-1")) as server:
        code, _, err = command(server, "generate")
    assert code == 2
    assert "expected a key that it takes in the environment's OPENAI_API_KEY" in err


def test_what_it_wrote_is_mined_queried_tagged_compacted_and_vacuumed(command, tmp_path):
    with serving(Faults(malformed=0.1)) as server:
        assert command(server, "generate")[0] == 0
        assert command(server, "generate", "--set=generate.temperature=0")[0] == 0
    code, out, _ = command(None, "mine", "--input", "generated_queries@1", "--set", "mine.first_rank=1")
    assert (code, out) == (0, "triplets@0\n")
    upstream = command(None, "history", "triplets@0")[1]
    assert "generated_queries@1" in upstream
    assert "notes.jsonl" in upstream
    assert "triplets@0" in command(None, "history", "generated_queries@1", "--downstream")[1]
    sql = "SELECT generator, COUNT(*) AS n FROM generated_queries GROUP BY generator"
    assert {row["n"] for row in json.loads(command(None, "query", sql, "--json")[1])} == {30}
    assert command(None, "tag", "asked", "generated_queries@1")[0] == 0
    assert command(None, "compact")[0] == 0
    assert command(None, "vacuum", "--yes")[0] == 0
    tables = Tables.at(str(tmp_path / "tables"))
    assert tables.parse("asked").num_rows() == 30
    assert tables.latest("generated_queries").num_rows() == 60


def test_the_recipes_teacher_ranks_where_it_is_asked_to(command, tmp_path):
    teacher = tiny_bi_encoder(tmp_path / "teacher")
    sets = ["generate.ranker=teacher", f"score.teacher={teacher}", "score.teacher_kind=bi_encoder"]
    with serving() as server:
        code, out, _ = command(server, "generate", *(f"--set={one}" for one in (*sets, "score.max_tokens=64")))
    version = Tables.at(str(tmp_path / "tables")).latest("generated_queries")

    assert (code, out) == (0, "generated_queries@1\n")
    assert version.scan().select(pl.col("positive_score").is_not_null().all()).collect().item()
    assert version.commit.config["teacher"]["teacher"] == teacher


def test_a_teacher_that_is_not_there_is_told_before_anything_is_asked(command):
    with serving() as server:
        code, _, err = command(server, "generate", "--set=generate.ranker=teacher", "--set=score.teacher=/no/teacher")

        assert (code, server.ledger.requests) == (2, 0)
    assert "/no/teacher" in err
