"""Scoring: every triplet once per teacher, whatever happens beside it; the teacher's own units; honest refusals."""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from transformers import AutoTokenizer

from pipelines import score
from pipelines.intake.layouts import RowChecks
from pipelines.scoring import price as price_module
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.variation import copies_of
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.teachers.config import TeacherConfig, load_teacher, name_teacher
from pipelines.texts.ids import text_id
from schemas import ScoredTriplets
from tests.clusters import connected
from tests.curated_versions import curated, query_in
from tests.rows import frame_of
from tests.scorings import append_triplets, assert_each_once, expected_scores, text, write_triplets
from tests.tiny import poison, tiny_bi_encoder, tiny_cross_encoder

ROOT = Path(__file__).parents[2]
ALONE = {"precision": "float32", "commit_every_s": 0, "max_actors": 1}  # each actor takes seconds to start


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return tiny_cross_encoder(tmp_path_factory.mktemp("teacher") / "judge")


@pytest.fixture(scope="module")
def config(teacher) -> ScoreConfig:
    return ScoreConfig(teacher=teacher, max_tokens=64, chunk_rows=30, **ALONE)


def unexpected() -> None:
    raise AssertionError("there is nothing to do for a cluster")


def test_a_grown_table_is_scored_once_and_completed_once(ray_cluster, tmp_path, config):
    tables = Tables.at(str(tmp_path))
    triplets, config = append_triplets(tables, 0, 40), config.model_copy(update={"max_actors": 2})

    (scored,) = score.run(triplets, config, connect=connected)
    assert_each_once(triplets, scored, config)
    assert scored.commit.result.complete.model_dump() == {
        "teacher": name_teacher(config),
        "teacher_kind": "cross_encoder",
        "triplets": "triplets@0",
        "triplets_table_id": triplets.identity()["table_id"],
        "share": 1.0,
        "rows": 80,
    }
    assert score.run(triplets, config, connect=unexpected) == [scored], "nothing to do, nothing written, no cluster"

    grown = append_triplets(tables, 40, 8)
    (scored_again,) = score.run(grown, config, connect=connected)
    assert_each_once(grown, scored_again, config)
    rows_written = [version.commit.result.rows for version in scored_again.history()]
    assert sum(rows_written) == 96


@pytest.mark.slow
def test_a_share_is_part_of_a_larger_share(ray_cluster, tmp_path, config):
    triplets = append_triplets(Tables.at(str(tmp_path)), 0, 60)

    (small,) = score.run(triplets, config, share=0.3, connect=connected)
    (whole,) = score.run(triplets, config, connect=connected)

    queries = small.scan().select("query_id").unique().collect()["query_id"]
    assert 5 <= len(queries) <= 31
    assert small.commit.result.complete.share == 0.3
    assert_each_once(triplets, whole, config)
    by_runs = [version.commit.result.rows for version in whole.history()]
    assert sum(by_runs) == 120, "the whole run went on from the share"


def test_a_bi_encoder_gives_cosines_and_each_text_its_vector_once(ray_cluster, tmp_path):
    triplets = append_triplets(Tables.at(str(tmp_path / "tables")), 0, 40)
    folder = tiny_bi_encoder(tmp_path / "encoder")
    config = ScoreConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64, chunk_rows=30, **ALONE)

    scored, vectors = score.run(triplets, config, vectors=True, connect=connected)

    assert_each_once(triplets, scored, config)
    rows = scored.scan().collect()
    assert (rows["positive_relevance"] - (1 + rows["positive_score"]) / 2).abs().max() < 1e-6
    stored = vectors.scan().select("text_id", "kind").collect()
    texts = triplets.scan().collect()
    passages = pl.concat([texts["positive_id"], texts["negative_id"]]).unique()
    assert (
        stored.filter(pl.col("kind") == "query")["text_id"].sort().to_list()
        == texts["query_id"].unique().sort().to_list()
    )
    assert stored.filter(pl.col("kind") == "passage")["text_id"].sort().to_list() == passages.sort().to_list()


def test_a_teacher_with_two_outputs_is_refused_with_what_to_do(ray_cluster, tmp_path):
    triplets = append_triplets(Tables.at(str(tmp_path / "tables")), 0, 4)
    folder = tiny_cross_encoder(tmp_path / "two", num_labels=2)

    with pytest.raises(UserError, match="2 outputs"):
        score.run(triplets, ScoreConfig(teacher=folder, max_tokens=64, **ALONE), connect=connected)
    assert triplets.tables.latest("scored_triplets") is None


def test_an_engine_that_gives_other_scores_is_found_before_anything_is_scored(ray_cluster, tmp_path, config):
    tables = Tables.at(str(tmp_path))
    triplets = append_triplets(tables, 0, 4)
    wrong = expected_scores(triplets, config).with_columns(pl.col("positive_score") + 0.5)
    rows = triplets.scan().collect().join(wrong, on="triplet_id").to_dicts()
    elsewhere = Lineage("score", [triplets], config, {"teacher": name_teacher(config), "engine": {"device": "abacus"}})
    with new_version(tables, ScoredTriplets, elsewhere) as existing:
        existing.write(frame_of(ScoredTriplets, *rows, teacher=name_teacher(config)))
    grown = append_triplets(tables, 4, 4)

    with pytest.raises(UserError, match=r"scores up to 0\.5\d* away.*abacus"):
        score.run(grown, config, connect=connected)
    assert tables.latest("scored_triplets") == existing.version


def test_a_text_that_cannot_be_encoded_has_no_vector_and_stops_nothing(ray_cluster, tmp_path):
    folder = poison(tiny_bi_encoder(tmp_path / "encoder"))
    tables = Tables.at(str(tmp_path / "tables"))
    triplets = write_triplets(
        tables,
        [
            {"query": "red sea", "positive": "big fish", "negative": "old king"},
            {"query": "blue sky", "positive": "poison", "negative": "cold ice"},
        ],
    )
    config = ScoreConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64, **ALONE)

    scored, vectors = score.run(triplets, config, vectors=True, connect=connected)

    errors = dict(scored.scan().select("query", "scoring_error").collect().iter_rows())
    assert errors["red sea"] is None
    assert errors["blue sky"].startswith("positive: ")
    assert vectors.num_rows() == 5  # of the six texts


def price_of(triplets: TableVersion, config: ScoreConfig, connect=connected, **asked):
    return score.ask_price(triplets, config, connect=connect, began=time.monotonic(), **asked)


def pairs_in(triplets: TableVersion) -> dict[tuple[str, str], tuple[str, str]]:
    """Ids and texts of its different pairs."""
    rows = triplets.scan().collect().to_dicts()
    return {
        (row["query_id"], row[f"{side}_id"]): (row["query"], row[side])
        for row in rows
        for side in ("positive", "negative")
    }


def tokens_of(folder: str, texts: list[tuple[str, ...]], max_tokens: int) -> tuple[int, int]:
    """How many tokens of the texts a model reads, and how many texts it cuts, by its tokenizer alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [len(tokenizer(*one)["input_ids"]) for one in texts]
    return sum(min(length, max_tokens) for length in lengths), sum(length > max_tokens for length in lengths)


def test_a_dry_run_counts_what_the_run_then_does_and_writes_nothing(ray_cluster, tmp_path, config):
    tables = Tables.at(str(tmp_path))
    rows = [(n, n + 1 + 7 * k) for n in range(40) for k in range(2)]
    passages = {n: text(f"p{n}", 3 + n % 7) for n in range(60)}
    triplets = write_triplets(
        tables, [{"query": text(f"q{n}", 4), "positive": passages[n], "negative": passages[other]} for n, other in rows]
    )
    short = config.model_copy(update={"max_tokens": 12})
    score.run(triplets, short, share=0.3, connect=connected)
    scored = tables.latest("scored_triplets")
    done = pairs_in(scored)
    left = [texts for pair, texts in pairs_in(triplets).items() if pair not in done]

    price = price_of(triplets, short)

    tokens, cut = tokens_of(config.teacher, left, 12)
    told = price.told(2.0)
    assert (told["rows_done"], told["rows_left"]) == (scored.num_rows(), 80 - scored.num_rows())
    assert (told["pairs_left"], told["read"], told["tokens"], told["cut"]) == (len(left), len(left), tokens, cut)
    assert (told["sampled"], told["tokens_error"], told["cut_error"]) == (len(left), 0, 0)
    assert 0 < cut < len(left)
    assert [one["actors"] for one in told["forecasts"]] == [1, 2, 4]
    assert all(one["cost"] == 2.0 * one["actors"] * one["seconds"] / 3600 > 0 for one in told["forecasts"])
    assert told["tokens_per_second"] > 0
    assert tables.latest("scored_triplets") == scored
    assert tables.names() == ["triplets", "scored_triplets"]
    score.run(triplets, short, connect=connected)
    everything = price_of(triplets, short, unexpected)
    assert (everything.pairs, everything.read, everything.forecasts) == (0, 0, [])
    assert everything.told(2.0)["rows_done"] == 80
    assert [line.split() for line in everything.lines(2.0)[1:]] == [
        ["rows", "80", "0", "counted"],
        ["unique", "pairs", "0", "counted"],
    ]


@pytest.mark.slow
def test_a_dry_run_for_vectors_counts_texts_each_once(ray_cluster, tmp_path, monkeypatch):
    triplets = append_triplets(Tables.at(str(tmp_path / "tables")), 0, 40)
    folder = tiny_bi_encoder(tmp_path / "encoder")
    config = ScoreConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64, chunk_rows=30, **ALONE)
    rows = triplets.scan().collect().to_dicts()
    queries = {row["query"] for row in rows}
    passages = {row[side] for row in rows for side in ("positive", "negative")}

    told = price_of(triplets, config, vectors=True).told(None)

    tokens, _ = tokens_of(folder, [(text,) for text in (*queries, *passages)], 64)
    assert (told["texts_left"], told["rows_left"]) == (len(queries) + len(passages), 80)
    assert (told["reads"], told["read"], told["tokens"]) == ("texts", len(queries) + len(passages), tokens)
    assert (told["pairs_left"], told["cut"]) == (len(pairs_in(triplets)), 0)
    assert {one["cost"] for one in told["forecasts"]} == {None}
    monkeypatch.setattr(price_module, "SAMPLE", 10)
    sampled = price_of(triplets, config, vectors=True).told(None)
    assert 0 < sampled["sampled"] < sampled["read"] == told["read"]
    assert abs(sampled["tokens"] - tokens) < 4 * sampled["tokens_error"]


def test_a_share_without_rows_is_refused_by_a_dry_run_too(tmp_path, config):
    triplets = append_triplets(Tables.at(str(tmp_path)), 0, 2)

    with pytest.raises(UserError, match=r"a share of 1e-09 of triplets@0 has no rows; nothing to score"):
        price_of(triplets, config, unexpected, share=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_dry_runs_foretell_the_runs_that_follow(tmp_path):
    """Prints the ratios; only tokens are asserted, since a clock on a shared machine proves nothing."""
    folder = ROOT.parent / "shared/models/judge-minilm"
    pairs = ROOT.parent / "shared/data/train_pairs.parquet"
    if not folder.exists() or not pairs.exists():
        pytest.skip(f"needs {folder} and {pairs}")
    texts = pl.read_parquet(pairs).filter(pl.col("query").str.len_bytes() > 0).sample(2_000, seed=0).to_dicts()
    rows = [
        {"query": row["query"], "positive": row["positive"], "negative": texts[(n + 37 * k) % len(texts)]["positive"]}
        for n, row in enumerate(texts[:400])
        for k in range(1, 5)
    ]
    ratios = []
    for number in range(5):
        tables = Tables.at(str(tmp_path / f"tables_{number}"))
        triplets = write_triplets(tables, rows)
        command = [sys.executable, "-m", "jobs", "score", "--tables", tables.uri, f"--set=score.teacher={folder}"]
        environment, began = os.environ | {"PYTHONPATH": str(ROOT)}, time.monotonic()
        run = partial(subprocess.run, cwd=ROOT, env=environment, capture_output=True, check=True)
        dry = run([*command, "--dry-run", "--json"])
        told, asked_s, began = json.loads(dry.stdout), time.monotonic() - began, time.monotonic()
        run(command)
        seconds = time.monotonic() - began
        tokens, _ = tokens_of(str(folder), list(pairs_in(triplets).values()), told["max_tokens"])
        ratios.append((told["tokens"] / tokens, told["forecasts"][0]["seconds"] / seconds))
        print(f"dry run {asked_s:.0f} s, run {seconds:.0f} s; foretold / found: tokens, seconds: {ratios[-1]}")
    tokens, seconds = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"median of five: tokens {tokens:.4f}, seconds {seconds:.3f}")
    assert 0.99 <= tokens <= 1.01


def score_command(tables: Tables, teacher: str) -> list[str]:
    settings = (f"teacher={teacher}", "chunk_rows=60", "commit_every_s=0.1", "max_tokens=64")
    return [sys.executable, "-m", "jobs", "score", "--tables", tables.uri, *(f"--set=score.{one}" for one in settings)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_runs_at_once_while_rows_are_added_score_nothing_twice(tmp_path, teacher):
    tables = Tables.at(str(tmp_path / "tables"))
    triplets = append_triplets(tables, 0, 400, negatives=3)
    command, environment = score_command(tables, teacher), os.environ | {"PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    while tables.latest("scored_triplets") is None and None in [one.poll() for one in both]:
        time.sleep(0.2)
    grown = append_triplets(tables, 400, 40, negatives=3)
    told = [one.communicate() for one in both]

    assert [one.returncode for one in both] == [0, 0], told
    for stdout, _ in told:
        scored = tables.parse(stdout.strip())
        assert_each_once(triplets, scored, TeacherConfig(teacher=teacher, max_tokens=64))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert_each_once(grown, tables.parse(done.stdout.strip()), TeacherConfig(teacher=teacher, max_tokens=64))


PLAIN = ["Red Sea!", "a deep river", "the old king", "a deep river"]


def texts_file(folder: Path, texts: list[object], column: str = "text") -> str:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return str(path)


def test_plain_texts_get_their_vectors_once_and_stand_beside_them(tmp_path, ray_cluster):
    folder = tiny_bi_encoder(tmp_path / "encoder", prompts={"query": "what is ", "document": ""})
    config = ScoreConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64, **ALONE)
    tables, checks = Tables.at(str(tmp_path / "tables")), RowChecks(max_bad_share=0.4)
    path = texts_file(tmp_path, [*PLAIN, " "], "title")

    def encode(kind, **changes):
        read = score.TextFiles([path], "title", kind)
        return score.run_texts(tables, read, config, **({"checks": checks, "connect": connected} | changes))

    assert encode("passage", dry_run=True) == []
    assert tables.latest("teacher_vectors") is None
    (passages,) = encode("passage")
    assert encode("passage", connect=unexpected) == [passages]
    rows = encode("query")[0].scan().sort("kind", "text").collect()

    assert rows.select("kind", "text").rows() == [(kind, text) for kind in ("passage", "query") for text in PLAIN[:3]]
    assert rows["text_id"].to_list() == [text_id(one) for one in PLAIN[:3]] * 2
    teacher = load_teacher(config)
    for row in rows.iter_rows(named=True):
        np.testing.assert_allclose(row["vector"], teacher.encode([row["text"]], row["kind"])[0], atol=1e-5)
    (file,) = passages.commit.result.texts
    assert (file.path, file.sha256) == (path, hashlib.sha256(Path(path).read_bytes()).hexdigest())
    assert [one.name for one in Path(tables.uri).iterdir()] == ["teacher_vectors"]


@pytest.mark.slow
def test_varied_copies_of_the_passages_in_training_get_vectors_as_plain_texts(tmp_path, ray_cluster):
    teacher = tiny_bi_encoder(tmp_path / "encoder")
    config = ScoreConfig(teacher=teacher, teacher_kind="bi_encoder", max_tokens=64, varied_copies=2, **ALONE)
    rows = [(query_in("train", n), f"deep river {n}", 5.0, f"old king {n}", -5.0) for n in range(3)]
    version = curated(tmp_path, [*rows, (query_in("test"), "red sea", 5.0, "the moon", -5.0)])
    copies = {text for batch in copies_of(version, 2) for text in batch}

    assert score.run_varied(version, config, connect=unexpected, dry_run=True) == []
    (vectors,) = score.run_varied(version, config, connect=connected)
    assert score.run_varied(version, config, connect=connected) == [vectors]

    rows = vectors.scan().collect()
    assert set(rows["text"]) == copies
    assert rows["kind"].unique().to_list() == ["passage"]
    assert [one.version for one in vectors.commit.inputs] == [str(version)]
    with pytest.raises(UserError, match=r"score.varied_copies is 0: .* set how many copies a passage gets"):
        score.run_varied(version, config.model_copy(update={"varied_copies": 0}), connect=unexpected)


REFUSED_TEXTS = {
    "no such column": ({"column": "body"}, r"has the columns title, expected body: say which"),
    "too many bad": ({"column": "title"}, r"2 of 6 texts are blank, no text or over"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED_TEXTS.values(), ids=REFUSED_TEXTS)
def test_files_that_hold_no_plain_texts_are_refused_and_leave_nothing(tmp_path, changes, message):
    config = ScoreConfig(
        precision="float32", teacher=tiny_bi_encoder(tmp_path / "encoder"), teacher_kind="bi_encoder", max_tokens=64
    )
    read = score.TextFiles([texts_file(tmp_path, [*PLAIN, 7, " "], "title")], **changes)
    tables = Tables.at(str(tmp_path / "tables"))

    with pytest.raises(UserError, match=message):
        score.run_texts(tables, read, config, checks=RowChecks(), connect=unexpected)
    assert list(Path(tables.uri).iterdir()) == []
