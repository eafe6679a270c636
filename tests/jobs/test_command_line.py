"""What a user sees of `python -m jobs`: results on stdout, one clear message per mistake, and nothing half-written."""

import gzip
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from jobs.__main__ import COMMANDS, app
from jobs.cluster import ResultsAlone
from jobs.options import RootOptions, StageOptions, print_curation
from jobs.usage import completed
from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.stage import hints
from pipelines.storage import Invocation, Tables
from tests.scored_versions import scored_rows, write_scored, write_triplets
from tests.terminals import written_to
from tests.tiny import tiny_cross_encoder

ROOT = Path(__file__).parents[2]
GOOD = {"query": "what is a cat", "positive": "a small animal", "negative": "a big city"}


@pytest.fixture
def refuse(run):
    """Run a command that must be refused: code 2, one line on stderr, nothing on stdout; gives the line."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        *before, message = err.strip().splitlines()
        assert message.startswith("error: ")
        assert "Traceback" not in err
        assert not [line for line in before if line.startswith("error: ")]
        return message

    return call


@pytest.fixture
def terminal(monkeypatch):
    """A terminal: the stream that leads to it, and what reads what was written there since."""
    master, slave = os.openpty()
    stream = open(slave, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a descriptor
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield stream, lambda: written_to(master)
    stream.close()
    os.close(master)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return Path(tiny_cross_encoder(tmp_path_factory.mktemp("teacher") / "judge"))


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


def good_rows(count):
    return [GOOD | {"query": f"question {number}"} for number in range(count)]


def parquet_bytes(frame):
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


GZIPPED = gzip.compress(lines(*[GOOD | {"query": f"{number:x}" * 40} for number in range(4000)]))
PARQUET = parquet_bytes(pl.DataFrame(good_rows(100)))
UNREADABLE = {  # what is in the file -> (its bytes, what the message must say)
    "nothing": (b"", "is empty.*expected rows as JSON Lines.*leave it out"),
    "blank lines": (b"\n  \n\n", "holds only blank lines.*expected rows"),
    "gzip cut short": (GZIPPED[: len(GZIPPED) // 2], "(breaks off|cannot be read).*(fetch it|write it) again"),
    "gzip cut in its first bytes": (GZIPPED[:20], "(breaks off|cannot be read|is empty)"),
    "Parquet cut short": (PARQUET[: len(PARQUET) // 2], "cannot be read.*expected.*fetch it or write it again"),
    "prose": (b"a letter to a friend\nand a second line\n", "neither of the known formats, expected JSON Lines"),
    "bytes": (bytes(range(256)) * 20, "found neither of the known formats|not UTF-8"),
    "a JSON array": (json.dumps([GOOD]).encode(), r"found one JSON array, expected one JSON object a line: jq"),
    "an object over several lines": (json.dumps(GOOD, indent=1).encode(), "expected one on each line.*jq -c"),
    "UTF-32": ("query,positive,negative\n".encode("utf-32"), "is UTF-32, expected UTF-8 or UTF-16: iconv"),
    "rows in Latin-1": ("query,positive,negative\né,b,c\n".encode("latin-1"), "not_utf8 in 1 .*iconv -f CP1252"),
    "TSV without quoting": (
        b'query\tpositive\tnegative\na\tb\t"c\nd\te\tf\n',
        "line 2 opens a quote that takes in 2 lines, each of them a row.*--quoting none if .*--quoting minimal if",
    ),
    "quotes with backslashes": (
        b'query,positive,negative\n"\\"a\\" b",c,d\n',
        "not_csv in 1 .*a quote in a field is doubled",
    ),
    "names in another case": (lines({"Query": 1, "positive": 2, "negative": 3}), """--columns '{"query": "Query"}'"""),
    "a missing column": (
        lines({"query": "a", "positive": "b"}),
        "no column for negative .*`python -m jobs mine --input .*rows.data`",
    ),
    "a header in Latin-1": ("quéry,positive,negative\na,b,c\n".encode("latin-1"), "not UTF-8.*iconv -f CP1252"),
    "a header alone": (b"query,positive,negative\n", "no row below its header, expected rows"),
    "Parquet without rows": (parquet_bytes(pl.DataFrame(good_rows(1)).clear()), "Parquet without rows, expected rows"),
    "gzip without its last bytes": (gzip.compress(lines(*good_rows(9)))[:-9], "fetch it"),
    "columns of no known name": (b"q,d\nx,y\n", "found the columns q, d; expected query: .*--columns query=q"),
    "CSV without a header": (b"what is it,an answer,another\n", "put a header line above"),
    "mostly bad rows": (
        lines(GOOD, GOOD | {"query": 3}, GOOD | {"positive": ""}, GOOD | {"query": 4}),
        r"3 of 4 rows \(75.0%\) are bad, expected at most 10.0%: query_wrong_type in 2 \(e.g. row 2: .*3",
    ),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_taken_is_refused_and_leaves_no_trace(refuse, tmp_path, content, message):
    path = tmp_path / "rows.data"
    path.write_bytes(content)

    told = refuse("ingest", "--input", path)

    assert re.search(message, told)
    assert str(path) in told
    assert files_below(tmp_path / "tables") == []


@pytest.mark.parametrize("content", [GZIPPED[: len(GZIPPED) // 2], lines("no json")], ids=["torn", "mostly bad rows"])
def test_a_bad_file_beside_a_good_one_keeps_both_out(refuse, tmp_path, content):
    (tmp_path / "good.jsonl").write_bytes(lines(*good_rows(20)))
    (tmp_path / "bad.data").write_bytes(content)

    assert "bad.data" in refuse("ingest", "--input", tmp_path / "good.jsonl", "--input", tmp_path / "bad.data")
    assert files_below(tmp_path / "tables") == []


def test_columns_of_any_name_and_the_quoting_can_be_said(run, tmp_path):
    (tmp_path / "rows.tsv").write_text('q, asked\ta=b\tnegative\n"one\ttwo\tthree"\nfour\tfive\t"six\n')
    columns = json.dumps({"query": "q, asked", "positive": "a=b"})

    code, _, err = run("ingest", "--input", tmp_path / "rows.tsv", "--columns", columns, "--quoting", "none")

    triplets = Tables.at(str(tmp_path / "tables")).latest("triplets").scan().select("query", "positive", "negative")
    assert code == 0, err
    assert sorted(triplets.collect().rows()) == [('"one', "two", 'three"'), ("four", "five", '"six')]


def test_one_bad_row_is_quarantined_with_its_reasons_and_the_rest_goes_on(run, tmp_path):
    bad = GOOD | {"query": "", "positive": None}
    (tmp_path / "rows.jsonl").write_bytes(lines(*good_rows(10), bad, *good_rows(15)[10:]))

    code, out, err = run("ingest", "--input", tmp_path / "rows.jsonl")

    tables = Tables.at(str(tmp_path / "tables"))
    quarantined = tables.latest("quarantined_rows").scan().select("source_row", "reasons").collect().rows()
    assert (code, out) == (0, "triplets@0\n")
    assert quarantined == [(11, ["query_blank", "positive_missing"])]
    assert tables.latest("triplets").num_rows() == 15
    assert "16 rows: 15 accepted as 15 new triplets and 0 duplicates, 1 quarantined" in err


REFUSED = {  # command -> what the message must say
    "input that is not there": (
        "ingest --input {tmp}/none.jsonl",
        "none.jsonl does not exist, expected a file or a folder",
    ),
    "input that is a URL": ("ingest --input https://host/a.jsonl", "is a URL, expected a local file.*download it"),
    "input that is a device": ("ingest --input /dev/null", "is no regular file, expected"),
    "a folder without data": ("ingest --input {tmp}/empty", "holds no data file.*expected at least one"),
    "columns without =": ("ingest --input {file} --columns query", "expected name=column pairs like query=q"),
    "columns that are no JSON": ("ingest --input {file} --columns {{]", "expected name=column pairs .*or JSON"),
    "columns for one role twice": ("ingest --input {file} --columns query=a,query=b", "names a role twice"),
    "columns of no role": ("ingest --input {file} --columns title=q", "names title, expected role=column"),
    "columns that are not there": ("ingest --input {file} --columns query=q", "no column q; found the columns query"),
    "mine without a positive": ("mine --input {queries}", "no column for positive"),
    "an unknown recipe": (
        "ingest --input {file} --recipe none",
        "no recipe 'none'; expected .*quickstart.* or the path",
    ),
    "a recipe that is no TOML": ("ingest --input {file} --recipe {file}", "is no TOML"),
    "a recipe that is a folder": (
        "ingest --input {file} --recipe {tmp}",
        "no recipe .*expected .*the path of a TOML file",
    ),
    "an unknown key in a recipe": (
        "ingest --input {file} --recipe {recipe}",
        "ingest.max_bad is no key; expected one of max_bad",
    ),
    "--set without a value": ("ingest --input {file} --set ingest.max_bad_share", "expected stage.field=value"),
    "--set without a stage": ("ingest --input {file} --set max_bad_share=1", "expected stage.field=value"),
    "--set of an unknown stage": ("ingest --input {file} --set ingst.x=1", "ingst is no key; expected one of ingest"),
    "--set of an unknown field": (
        "ingest --input {file} --set ingest.x=1",
        "ingest.x is no key; expected one of max_bad",
    ),
    "--set of a wrong type": (
        "ingest --input {file} --set ingest.max_bad_share=many",
        "ingest.max_bad_share = 'many'.*number",
    ),
    "--set beyond its range": (
        "ingest --input {file} --set ingest.max_bad_share=2",
        "max_bad_share = 2: .*less than or equal to 1",
    ),
    "--set of a whole stage": ("ingest --input {file} --set ingest=1", "expected stage.field=value"),
    "--set below a value": (
        "ingest --input {file} --set ingest.keep_raw.x=1",
        "ingest.keep_raw = .*expected|valid boolean",
    ),
    "--set of a list, torn": ("distill --name a --set distill.dimensions=[1,", r"distill.dimensions = '\[1,'"),
    "a table root that is a file": ("ingest --input {file} --tables {file}", "is a file; expected a folder"),
    "a table root below a file": ("ingest --input {file} --tables {file}/tables", "is a file; expected a folder"),
    "a table root of an unknown kind": (
        "ingest --input {file} --tables ftp://host/a",
        "unknown scheme; expected a folder or s3",
    ),
    "a bucket's name that cannot be": (
        "ingest --input {file} --tables s3://UPPER/a",
        "is no bucket URI; expected s3://bucket",
    ),
    "a version of a table not made yet": (
        "score --from triplets@3",
        "no table triplets under .*found no table there.*TABLES",
    ),
    "a version that is no version": ("score --from triplets", "'triplets' is no table version; expected TABLE@VERSION"),
    "a version of no table": ("score --from triples@1", "'triples' is no table; expected one of ingested_files"),
    "nothing to score": (
        "score",
        "no table triplets under .*run `python -m jobs ingest --input INPUT` or `mine` first",
    ),
    "nothing to curate": ("curate", "no table scored_triplets under .*run `python -m jobs score` first"),
    "nothing to distill": ("distill --name a", "no table curated_triplets under .*run `python -m jobs curate` first"),
    "nothing to evaluate": ("evaluate --model a", "no model.*"),
    "nothing to publish": ("publish --model a --to {tmp}/out", "no model.*"),
    "nothing to reproduce": ("reproduce --model a", "neither a trained model under .*nor a published folder"),
    "nothing to compare": ("diff curated_triplets@0 curated_triplets@1", "no table curated_triplets under"),
    "nothing to ask": ("query 'SELECT 1'", "there is no table under .*right root"),
    "no model to list": (
        "models",
        "there is no model under .*run `python -m jobs distill --name NAME --recipe RECIPE` first",
    ),
    "history of no table": ("history triples", "'triples' is no table; expected one of"),
    "a job's secret": (
        "submit --address http://127.0.0.1:1 --env HF_TOKEN=hf_1 -- score",
        "HF_TOKEN would be forwarded",
    ),
    "a job's variable without =": ("submit --address http://127.0.0.1:1 --env A -- score", "expected NAME=VALUE"),
}


@pytest.mark.parametrize(("command", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(refuse, tmp_path, command, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.jsonl").write_bytes(lines(*good_rows(12)))
    (tmp_path / "queries.jsonl").write_bytes(lines({"query": "a"}))
    (tmp_path / "own.toml").write_text("[ingest]\nmax_bad = 1\n")
    places = {"tmp": tmp_path, "file": tmp_path / "rows.jsonl", "queries": tmp_path / "queries.jsonl"}
    words = re.findall(r"'[^']*'|\S+", command.format(**places, recipe=tmp_path / "own.toml"))

    assert re.search(message, refuse(*(word.strip("'") for word in words)))
    assert files_below(tmp_path / "tables") == files_below(tmp_path / "out") == []


def test_no_table_root_is_told_with_both_ways_to_give_one(refuse, monkeypatch):
    monkeypatch.delenv("TABLES")

    assert "expected --tables FOLDER or s3://bucket/prefix, or TABLES set" in refuse("score")


def test_in_a_ray_job_a_relative_root_is_refused(refuse, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")

    assert "is relative" in refuse("models", "--tables", "tables")


@pytest.mark.parametrize(
    "command",
    [
        "ingest --input {rows} --tables /proc/tables",  # even for root
        "run --input {rows} --name a --tables /proc/tables",
        "score --tables /proc/tables",
        "publish --model a --to /proc/model",
        "publish --model a --to {rows}/model",
        "publish --model a --to {rows}",
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_done(refuse, tmp_path, command):
    (tmp_path / "rows.jsonl").write_bytes(lines(*good_rows(12)))

    told = refuse(*command.format(rows=tmp_path / "rows.jsonl").split())

    assert re.search(
        r"/proc(/\w+)? cannot be written: No such file or directory|rows.jsonl(/model: \S+)? is a file", told
    )
    assert files_below(tmp_path / "tables") == []


@pytest.mark.parametrize("arguments", [["ingest"], ["ingest", "--nothing"], ["nothing"], ["score", "--share", "half"]])
def test_wrong_usage_is_told_by_the_parser_with_code_2(run, arguments):
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert "Usage: python -m jobs" in err
    assert "Error" in err


def test_no_command_at_all_shows_the_help_on_stderr_with_code_2(run):
    code, out, err = run()

    assert (code, out) == (2, "")
    assert err == run("--help")[1]


def test_of_an_option_given_twice_the_last_counts_and_a_note_may_begin_with_a_hyphen():
    _, called, _ = app.parse_args(["score", "--tables", "a", "--tables", "b", "--note", "-why", "--set=x", "--set=y"])

    assert called.arguments["stage"] == StageOptions(tables="b", note="-why", set_=["x", "y"])


def test_what_follows_two_hyphens_is_the_jobs_command_as_it_stands():
    _, called, _ = app.parse_args(["submit", "--address", "http://a", "--", *"ingest --input a b --help".split()])

    assert called.arguments["command"] == ["ingest", "--input", "a", "b", "--help"]


def test_what_a_stage_is_told_is_recorded_by_its_own_root_alone(tmp_path):
    recipe, told = StageOptions(
        tables=str(tmp_path), recipe="quickstart", set_=["curate.test_share=0.5"], note="why"
    ).load()

    assert told.invocation == Invocation(recipe.model_dump(mode="json"), "why")
    assert told.invocation.recipe["curate"]["test_share"] == 0.5
    assert RootOptions(tables=str(tmp_path)).open().invocation == Invocation()


def ingested(run, tmp_path, count=12):
    (tmp_path / "rows.jsonl").write_bytes(lines(*good_rows(count)))
    code, out, _ = run("ingest", "--input", tmp_path / "rows.jsonl")
    assert code == 0
    return out.strip()


def spoil(teacher, how):
    """Damage a teacher in one way."""
    weights = teacher / "model.safetensors"
    if how == "no model":
        weights.unlink()
    elif how == "torn weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "weights of another format":
        weights.rename(teacher / "pytorch_model.bin")
    elif how == "no config":
        (teacher / "config.json").unlink()
    elif how == "a torn config":
        (teacher / "config.json").write_text('{"id2label": ')


TEACHERS = {
    "a torn config": "config.json cannot be read.*expected a JSON object",
    "no model": "no .*safetensors|expected .*safetensors",
    "torn weights": "damaged|cannot be read|truncated|incomplete",
    "weights of another format": "safetensors",
    "no config": "config.json",
}


@pytest.mark.parametrize(("how", "message"), TEACHERS.items(), ids=TEACHERS)
def test_a_damaged_teacher_is_refused_before_anything_is_scored(run, refuse, tmp_path, teacher, how, message):
    version = ingested(run, tmp_path)
    spoil(copy := Path(shutil.copytree(teacher, tmp_path / "judge")), how)

    told = refuse("score", "--from", version, "--set", f"score.teacher={copy}")

    assert re.search(message, told)
    assert str(copy) in told
    assert files_below(tmp_path / "tables" / "scored_triplets") == []


def test_a_teacher_with_several_outputs_is_refused(run, refuse, tmp_path):
    ingested(run, tmp_path)
    folder = tiny_cross_encoder(tmp_path / "judge", num_labels=3)

    assert "3 outputs" in refuse("score", "--set", f"score.teacher={folder}", "--set", "score.max_tokens=64")
    assert files_below(tmp_path / "tables" / "scored_triplets") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "--from", "triplets@7"], r"triplets@7 does not exist; triplets has the versions 0 to 0"),
        (
            ["curate", "--from", "triplets@0"],
            r"--from triplets@0: expected a version of scored_triplets, .* scored_triplets@0",
        ),
        (["history", "triplets@7"], r"triplets@7 does not exist"),
        (
            ["tag", "first", "triplets"],
            "'triplets' is no table version; .*for example triplets@0,",
        ),
        (["query", "SELECT * FROM triplets", "--at", "triplets@7"], r"triplets@7 does not exist"),
        (
            ["query", "SELECT nothing FROM triplets"],
            r'failed: .*"nothing"; expected a column of triplets .triplet_id, .*, miner_score.; ',
        ),
        (
            ["query", "SELECT sorce FROM triplets"],
            r'"sorce"; expected source or source_row or source_file; to see it: ',
        ),
        (["query", "SELECT t.sorce FROM triplets t"], r"'sorce' found in table 't'; expected source or source_row or"),
        (
            ["query", "SELECT query FROM triplets t JOIN ingested_files AS f ON t.source_file = f.no_such"],
            r"'no_such' found in table 'f'; expected a column of ingested_files .[^()]*.; .* ingested_files LIMIT 1",
        ),
        (["query", "SELECT x.query FROM triplets t"], r"'x' found; expected one of ingested_files, triplets; to see"),
        (["query", "SELECT COUNT(*), COUNT(*) FROM triplets"], r"are called len; expected a name .* COUNT\(\*\) AS n"),
        (["query", "SELECT 1 FROM triplet"], r"'triplet' was not found; expected triplets; .*query 'SHOW TABLES'`$"),
        (["query", "SELECT 1 FROM nowhere"], r"'nowhere' was not found; expected one of ingested_files, triplets; "),
        (["query", "SELECT * FROM triplets", "--output", "rows.xml"], r"expected a file ending in .parquet, .csv or"),
        (["score", "--share", "0"], r"share is 0.*expected"),
        (["score", "--set", "score.teacher=/none"], r"model /none: there is no such folder; expected"),
    ],
)
def test_a_request_that_the_tables_cannot_answer_is_refused(run, refuse, tmp_path, arguments, message):
    ingested(run, tmp_path)

    assert re.search(message, refuse(*arguments))


@pytest.mark.parametrize("given", [["--price-per-hour", "1"], ["--dry-run", "--price-per-hour", "-1"]])
def test_a_price_that_says_nothing_is_refused(run, refuse, tmp_path, given):
    ingested(run, tmp_path)

    assert "--price-per-hour" in refuse("score", *given)


def test_a_damaged_log_is_told(run, refuse, tmp_path):
    ingested(run, tmp_path)
    (log,) = (tmp_path / "tables" / "triplets" / "_delta_log").glob("*.json")
    log.write_bytes(log.read_bytes()[:50])

    assert re.search(r"the log of .*/triplets is damaged .*restore its _delta_log", refuse("score"))


def test_a_data_file_that_is_gone_is_told_by_its_version(run, refuse, tmp_path):
    ingested(run, tmp_path)
    (data,) = (tmp_path / "tables" / "triplets").glob("*.parquet")
    data.unlink()

    for command in (["query", "SELECT * FROM triplets"], ["score"], ["ingest", "--input", tmp_path / "rows.jsonl"]):
        told = refuse(*command)
        assert re.search(r"triplets@0 lacks 1 of its 1 data files .*bring .*/triplets back from a copy", told)
        assert data.name not in told
    assert run("query", "SELECT COUNT(*) AS files FROM ingested_files", "--json")[:2] == (0, '[{"files":1}]\n')


def test_a_data_file_whose_bytes_have_changed_is_named(run, refuse, tmp_path):
    ingested(run, tmp_path)
    (file,) = (tmp_path / "tables" / "triplets").glob("*.parquet")
    content = file.read_bytes()
    file.write_bytes(content[:4] + bytes(len(content) - 8) + content[-4:])

    for command in (["ingest", "--input", tmp_path / "rows.jsonl", "--source", "again"], ["query", "FROM triplets"]):
        told = refuse(*command)
        assert f"triplets@0 has a damaged data file, {file} (" in told
        assert "; bring it back from a copy, or use another root" in told


def test_a_store_that_does_not_answer_is_told_on_one_line(run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")

    code, out, err = run("models", "--tables", "s3://bucket/tables")

    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: .*http://127.0.0.1:9.*the same command may be run again\n", err)


def test_what_stdout_prints_from_accepts(run, tmp_path):
    printed = ingested(run, tmp_path)
    assert printed == "triplets@0"
    rows = scored_rows([("q", "p", 3.0, "n", 0.0)])
    scored = write_scored(write_triplets(Tables.at(str(tmp_path / "tables")), rows), rows)

    code, out, err = run("curate", "--from", scored, "--set", "curate.test_share=0")

    assert (code, out) == (0, "curated_triplets@0\n")
    assert "kept" in err
    assert run("diff", out.strip(), out.strip())[0] == 0
    assert run("history", out.strip())[1].splitlines()[0].startswith("curated_triplets@0 ")


def test_curate_prints_a_line_a_source_and_the_reasons_when_asked(run, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = pl.concat(
        scored_rows([(f"{source} {n}", f"p{n}", 3.0, f"n{n}", 3.0 - margin) for n in range(4)], source=source)
        for source, margin in (("fine", 9.0), ("rotten", 0.1))
    )
    write_scored(write_triplets(tables, rows), rows)
    dry_run = ["curate", "--dry-run", "--set", "curate.test_share=0"]

    assert [line.split() for line in run(*dry_run)[1].splitlines()] == [
        ["source", "rows", "kept", "corrected", "dropped", "mostly"],
        ["rotten", "4", "0.0%", "0", "4", "no_negative_left"],
        ["fine", "4", "100.0%", "0", "0"],
    ]
    reasons = run(*dry_run, "--by", "reason")[1]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in reasons.splitlines()[2:]] == [
        ["fine", "kept", "", "4"],
        ["rotten", "dropped", "no_negative_left", "3"],
        ["rotten", "dropped", "positive_in_training", "1"],
    ]
    as_json = json.loads(run(*dry_run, "--by", "source", "--json")[1])
    assert as_json[0] == {"source": "fine", "outcome": "kept", "reason": "", "rows": 4}
    assert [row["rows"] for row in as_json] == [4, 3, 1]
    assert "  rotten  4     0.0%" in run("curate", "--set", "curate.test_share=0")[2]


def test_a_partial_curation_prints_what_all_triplets_would_come_to_and_is_taken_only_by_name(run, refuse, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = scored_rows([(f"fine {n}", f"p{n}", 3.0, f"n{n}", -6.0) for n in range(40)], source="fine")
    scored = write_scored(write_triplets(tables, rows), rows.head(10), is_complete=False)
    partial = ["curate", "--from", scored, "--partial", "--set", "curate.test_share=0"]

    assert "30 of 40 rows of triplets@0 are not scored" in refuse("curate", "--from", scored)
    code, out, _ = run(*partial, "--dry-run")
    header, line = out.splitlines()
    assert (code, header.split()[:4]) == (0, ["source", "rows", "scored", "queries"])
    assert re.match(r" +fine +10 of 40 +10 +100\.0% \[7\d\.\d, 100\.0\] +0\.0% \[0\.0, 2\d\.\d\]", line)
    told = json.loads(run(*partial, "--dry-run", "--json")[1])
    assert told["counts"] == [{"source": "fine", "outcome": "kept", "reason": "", "rows": 10}]
    assert (told["whole"][0]["dropped"], told["whole"][0]["triplets"]) == (0.0, 40)

    assert run(*partial)[1] == "curated_triplets@0\n"
    assert "partial: 10 of 40 triplets" in run("history", "curated_triplets@0")[1]
    assert re.search(
        r"curated_triplets@0 is partial, made of 10 of 40 triplets; .* --from curated_triplets@0",
        refuse("distill", "--name", "small"),
    )


def test_of_many_sources_a_terminal_shows_the_worst_and_says_how_to_see_all(terminal, monkeypatch):
    stream, written = terminal
    monkeypatch.setenv("COLUMNS", "120")
    counts = [(f"source {n:04}", outcome, "", n) for n in range(1, 1001) for outcome in ("kept", "dropped")]
    counts[0] = ("source 0001", "kept", "", 9)
    frame = pl.DataFrame(counts, schema=["source", "outcome", "reason", "rows"], orient="row")

    print_curation(frame, file=stream)
    shown = written().splitlines()
    assert len(shown) == 22
    assert shown[-1] == "and 980 more sources with at least 50.0% kept; --by source counts all"
    assert "█" in shown[1]


def test_ingest_prints_one_version_and_the_same_again(run, tmp_path):
    assert ingested(run, tmp_path) == ingested(run, tmp_path) == "triplets@0"
    code, out, _ = run("ingest", "--input", tmp_path / "rows.jsonl", "--json")
    assert (code, json.loads(out)) == (0, {"triplets": "triplets@0"})


def test_a_note_stands_in_the_commit_and_in_the_history(run, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(lines(GOOD))

    assert run("ingest", "--input", tmp_path / "rows.jsonl", "--note", "why")[0] == 0

    assert Tables.at(str(tmp_path / "tables")).latest("triplets").commit.note == "why"
    assert "note: why" in run("history", "triplets@0")[1]


def test_sigterm_while_ray_runs_is_told_with_code_3(run, tmp_path, teacher):
    ingested(run, tmp_path)
    command = [sys.executable, "-m", "jobs", "score", f"--set=score.teacher={teacher}", "--set=score.max_tokens=64"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as scoring:
        while line := scoring.stderr.readline():
            if line.startswith("ray: "):
                scoring.send_signal(signal.SIGTERM)
                break
        _, err = scoring.communicate()

    assert scoring.returncode == 3, err
    assert err.endswith("interrupted; the same command goes on from the last commit or checkpoint\n")
    assert "SIGTERM received" not in err
    assert "core_worker" not in err


def test_sigterm_while_python_ignores_exceptions_ends_the_command_all_the_same():
    program = """
import signal, sys, time, weakref
from jobs import __main__ as jobs

class Held: ...

@jobs.app.command
def wait():
    held = Held()
    freed = weakref.ref(held, lambda reference: signal.raise_signal(signal.SIGTERM))
    del held
    time.sleep(60)

sys.argv = ["jobs", "wait"]
jobs._leave(jobs.main())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert ended.returncode == 3, ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_a_root_an_input_and_a_recipe_may_be_called_anything(run, tmp_path, monkeypatch):
    folder = tmp_path / "a b'é文#?*[1]{100%}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names = ("-x.jsonl", "a[1].jsonl", "*.csv", "~1.jsonl", "100%25\n.jsonl", "a://b.jsonl")
    for number, name in enumerate(names):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(lines(GOOD | {"query": f"question {number}"}))
    (folder / "a1.jsonl").write_bytes(lines("no json"))
    shutil.copy(ROOT / "jobs" / "recipes" / "quickstart.toml", "[r]%20.toml")

    inputs = [f"--input={name}" for name in names]
    told = run("ingest", *inputs, "--recipe", "[r]%20.toml", "--tables=-é//../-é/./")

    assert told[:2] == (0, "triplets@0\n"), told
    monkeypatch.setenv("TABLES", str(folder / "-é"))
    asked = "SELECT COUNT(*) AS rows FROM triplets"
    assert json.loads(run("query", asked, "--json")[1]) == [{"rows": len(names)}]
    assert run("query", asked, "--output", "[1]%20.csv") == (0, "[1]%20.csv\n", "")
    assert Path("[1]%20.csv").read_text() == f"rows\n{len(names)}\n"
    assert "ingest" in run("history", "triplets@0")[1]


LONG = "x" * 300
NO_NAMES = {
    "--tables": ["", "~nosuch/x", "100%25", "a\\b", "a\nb", "\udcff", LONG, "s3://bucket/a%20b", "file:///x"],
    "--input": ["", "~nosuch/x.csv", LONG, "nothing*.csv", "\udcff.csv", "dangling"],
    "--recipe": ["", "~nosuch/x.toml", LONG, "\udcff", "dangling", "."],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in NO_NAMES for value in NO_NAMES[option]])
def test_a_name_that_leads_nowhere_is_refused_before_anything_is_written(refuse, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(lines(GOOD))
    (tmp_path / "dangling").symlink_to("nowhere")
    given = {"--tables": "tables", "--input": "rows.jsonl", "--recipe": "quickstart"} | {option: value}

    told = refuse("ingest", *(f"{name}={text}" for name, text in given.items()))

    assert re.search("expected|rename it|a folder of that name is", told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "rows.jsonl"]


def test_several_inputs_follow_one_option_as_a_shell_expands_them(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(GOOD | {"query": name}))

    assert run("ingest", "--input", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--licence", "MIT")[0] == 0
    assert json.loads(run("query", "SELECT source FROM triplets ORDER BY source", "--json")[1]) == [
        {"source": "a"},
        {"source": "b"},
    ]
    _, called, _ = app.parse_args("run --beir x y --name n --input a b --input c".split())
    assert (called.arguments["beir"], called.arguments["name"]) == (["x", "y"], "n")
    assert called.arguments["intake"].input_ == ["a", "b", "c"]


def test_a_row_of_many_columns_is_shown_one_value_a_line(run, tmp_path):
    ingested(run, tmp_path)
    wide = ", ".join(f"query AS q{number}" for number in range(11))

    shown = run("query", f"SELECT {wide} FROM triplets ORDER BY query LIMIT 1")[1].splitlines()

    assert shown[0] == "-- row 1"
    assert shown[11].split() == ["q10", "question", "0"]


def test_query_answers_as_table_json_and_file(run, tmp_path):
    ingested(run, tmp_path)
    sql = "SELECT source, COUNT(*) AS n FROM triplets GROUP BY source"

    code, out, err = run("query", sql)
    assert (code, err) == (0, "")
    assert [cell.strip() for cell in out.splitlines()[-1].strip("|").split("|")] == ["rows", "12"]
    assert json.loads(run("query", sql, "--json", "--at", "triplets@0")[1]) == [{"source": "rows", "n": 12}]
    for ending, read in (("csv", pl.read_csv), ("jsonl", pl.read_ndjson), ("parquet", pl.read_parquet)):
        file = str(tmp_path / f"answer.{ending}")
        assert run("query", sql, "--output", file)[:2] == (0, f"{file}\n")
        assert read(file).rows() == [("rows", 12)]


def test_lists_are_json_within_csv_and_an_answers_file_is_whole_or_not_there(run, refuse, tmp_path):
    ingested(run, tmp_path)
    sql, file = "SELECT ARRAY[1, 2] AS numbers, ARRAY['a', '文'] AS texts", tmp_path / "answer.csv"

    assert run("query", sql, "--output", file)[0] == 0
    assert file.read_text(encoding="utf-8").splitlines() == ["numbers,texts", '"[1, 2]","[""a"", ""文""]"']
    assert "is there already; expected the name of a new file" in refuse("query", sql, "--output", file)
    assert "bytes, which neither JSON nor CSV can hold" in refuse(
        "query", "SELECT CAST(query AS BLOB) AS b FROM triplets", "--output", tmp_path / "other.jsonl"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"tables", "rows.jsonl", "answer.csv"}


def test_what_an_encoding_lacks_is_escaped_on_stdout_and_stderr(run, tmp_path, monkeypatch):
    ingested(run, tmp_path)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    assert run("query", "SELECT '文é😀' AS x", "--json")[0] == 0
    assert run("query", "SELECT '文é😀' AS x")[0] == 0
    assert run("score", "--from", "文@0")[0] == 2

    out.flush()
    err.flush()
    as_json, table = out.buffer.getvalue().decode("ascii").split("\n", 1)
    assert json.loads(as_json) == [{"x": "文é😀"}]
    assert r"\u6587\xe9\U0001f600" in table
    assert rb"error: '\u6587@0' is no table version" in err.buffer.getvalue()


def test_a_reader_of_stdout_that_went_away_is_no_error(run, tmp_path, monkeypatch, capsys):
    ingested(run, tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as nobody:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", nobody)
        code, _, err = run("history")
        sys.stdout.close()  # by now it leads nowhere
        monkeypatch.undo()
        with suppress(BrokenPipeError):
            nobody.close()

    assert (code, err) == (141, "")


def test_an_error_on_a_terminal_ends_with_the_command_that_helps(run, terminal, tmp_path, monkeypatch):
    root, (stream, written) = tmp_path / "my tables", terminal
    monkeypatch.setattr(sys, "stderr", stream)

    assert run("curate", "--tables", root, "--recipe", "quickstart", "--set", "curate.test_share=0.1")[0] == 2
    *_, message, empty, command = written().rstrip("\n").split("\n")

    helping = f"python -m jobs score --tables '{root}' --recipe quickstart --set curate.test_share=0.1"
    assert (empty, command) == ("", f"\x1b[36m  {helping}\x1b[0m")
    assert message.startswith("\x1b[31merror:\x1b[0m")
    assert f"run `{helping}` first" in message

    monkeypatch.setenv("NO_COLOR", "1")
    run("ingest", "--input", "nowhere")
    assert written().endswith(": check the path\n\n  python -m jobs ingest --help\n")
    run("score", "--shar", "1")
    assert written().endswith("see `python -m jobs score --help`\n\n  python -m jobs score --help\n")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("run `python -m jobs score` first", "run `python -m jobs score --tables 'a b' --set 'x.y=\"z\"'` first"),
        ("run: python -m jobs models (or so)", "run: `python -m jobs models --tables 'a b'` (or so)"),
        ("to do: python -m jobs history x@1", "to do: `python -m jobs history x@1 --tables 'a b'`"),
        ("`python -m jobs score --tables c --set d=1`", "`python -m jobs score --tables c --set d=1`"),
        ("`python -m jobs tag 'a`b'`", "`python -m jobs tag 'a`b' --tables 'a b'`"),
        ("nothing", "nothing"),
    ],
)
def test_a_command_in_a_message_gets_the_users_own_options(monkeypatch, message, told):
    monkeypatch.setattr(sys, "argv", ["jobs", "distill", "--name", "n", "--tables", "a b", "--set", 'x.y="z"'])

    assert completed(message, app)[0] == told


def test_what_is_said_beside_an_error_names_commands_that_can_be_pasted(run, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(lines(*good_rows(12), {"query": "a"}))
    root = ["--tables", tmp_path / "other"]

    err = run("ingest", "--input", tmp_path / "rows.jsonl", "--recipe", "quickstart", *root)[2]
    assert f"; the rows: `python -m jobs query 'SELECT * FROM quarantined_rows' --tables {tmp_path}/other`\n" in err
    assert f"run `python -m jobs curate --tables {tmp_path}/other --recipe RECIPE` first" in run("sources", *root)[2]
    assert hints.completed("`python -m jobs score`") == "`python -m jobs score`"


def test_a_query_cannot_change_a_table(run, refuse, tmp_path):
    ingested(run, tmp_path)
    before = files_below(tmp_path / "tables")

    assert "DROP would change a table" in refuse("query", "DROP TABLE triplets")
    assert "DELETE would change a table" in refuse("query", " delete from triplets")

    assert files_below(tmp_path / "tables") == before
    assert json.loads(run("query", "SELECT COUNT(*) AS n FROM triplets", "--json")[1]) == [{"n": 12}]
    assert run("query", "SELECT query FROM triplets WHERE source = ''")[2].endswith("0 rows\n")


def test_history_lists_all_tables_and_as_json_one_object_a_line(run, tmp_path):
    ingested(run, tmp_path)

    assert [line.split()[0] for line in run("history")[1].splitlines()] == ["ingested_files@0", "triplets@0"]
    (entry,) = map(json.loads, run("history", "triplets@0", "--json")[1].splitlines())
    assert (entry["version"], entry["stage"], entry["depth"]) == ("triplets@0", "ingest", 0)


def test_what_was_told_of_a_version_is_not_told_again_where_it_stands_twice(run, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = scored_rows([(f"query {n}", "p", 3.0, "n", 0.0) for n in range(4)])
    scored = write_scored(triplets := write_triplets(tables, rows), rows)
    curate.run(scored, CurateConfig(test_share=0))

    def told(*words):
        return [line.split(maxsplit=1) for line in run("history", triplets, "--downstream", *words)[1].splitlines()]

    each = ["triplets@0", "scored_triplets@0", "scored_triplets@1", "curated_triplets@0", "dropped_triplets@0"]
    assert [version for version, _ in told()] == each
    made = told("--all")
    assert [version for version, said in made if said != "see above"] == each
    assert [version for version, said in made if said == "see above"] == ["curated_triplets@0", "dropped_triplets@0"]


def test_the_help_has_one_line_for_every_module_with_a_main(run):
    modules = [path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("__")]
    with_main = [name for name in modules if hasattr(importlib.import_module(f"jobs.{name}"), "main")]

    code, out, _ = run("--help")

    listed = re.findall(r"^  ([a-z]+)  +\S", out.partition("Commands:")[2], re.MULTILINE)
    assert code == 0
    assert listed == list(COMMANDS)
    assert sorted(listed) == sorted(with_main)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_names_its_options_and_what_they_mean(run, command):
    code, out, _ = run(command, "--help")

    assert code == 0
    declared = [argument for argument in app[command].assemble_argument_collection() if argument.show]
    assert declared
    for argument in declared:
        name = argument.name if argument.name.startswith("--") else argument.name.upper()
        assert re.search(rf"^  {name}\b.*  {re.escape(argument.parameter.help)}", out, re.MULTILINE), name


def test_what_ray_prints_from_its_threads_stays_off_stdout(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", ResultsAlone(sys.stdout))
    ray = threading.Thread(target=print, args=("(raylet) a worker died",))
    ray.start()
    ray.join()

    print("scored_triplets@0")

    assert capsys.readouterr() == ("scored_triplets@0\n", "(raylet) a worker died\n")


def test_help_imports_nothing_heavy():
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jobs", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert imported & {"torch", "ray", "polars", "pyarrow", "deltalake", "transformers"} == set()
