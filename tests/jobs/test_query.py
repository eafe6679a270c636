"""Answers in SQL: their first rows, and what a terminal makes of them; SQL itself is in test_command_line.py."""

import json
import os
import pty
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from rich.cells import cell_len

from jobs.options import RootOptions
from jobs.query import main
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.scored_versions import scored_rows, write_scored, write_triplets
from tests.terminals import written_to

SQL = "SELECT triplet_id, query, positive, negative FROM scored_triplets ORDER BY triplet_id"


@pytest.fixture
def root(tmp_path):
    """Scored triplets, as many as no screen has lines."""
    tables = Tables.at(str(tmp_path / "tables"))
    rows = scored_rows([(f"query {number} 文", "a cat " * 9, 4.0, f"a dog {number}", -4.0) for number in range(60)])
    write_scored(write_triplets(tables, rows), rows)
    return RootOptions(tables=tables.uri)


@pytest.mark.parametrize("asked", ["query", "query, positive, {aliases}", "CAST(query AS INT)"])
def test_nothing_that_the_data_holds_acts_on_the_terminal_but_json_has_it_as_it_is(tmp_path, capsys, asked):
    hostile = "a\x1b[2J\u202eb\u200b"
    tables = Tables.at(str(tmp_path / "tables"))
    write_triplets(tables, scored_rows([(hostile, "p", 1.0, "n", 0.0)]))
    sql = f"SELECT {asked.format(aliases=', '.join(f'query AS q{n}' for n in range(9)))} FROM triplets"

    code = run_jobs("query", sql, "--tables", tables.uri)
    told = "".join(capsys.readouterr())
    assert r"a\u001b[2J\u202eb\u200b" in told
    assert told.replace("\n", "").isprintable()
    if code == 0:
        run_jobs("query", sql, "--tables", tables.uri, "--json")
        assert json.loads(capsys.readouterr().out)[0]["query"] == hostile


def test_a_signal_ends_a_query_that_would_never_end(root):
    endless = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 AS n FROM t) SELECT * FROM t"
    code = (  # the signal comes when the query has begun
        "import os, signal, sys, threading, polars, pipelines.inspection.queries, jobs.__main__ as jobs;"
        "threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start(); jobs._leave(jobs.main())"
    )
    command = [sys.executable, "-c", code, "query", endless, "--tables", root.tables]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "nothing was written, and the same command asks again" in ended.stderr


def test_a_query_reads_the_tables_alone(root, tmp_path, capsys):
    beside = tmp_path / "beside.csv"
    beside.write_text("secret\n1\n", encoding="utf-8")

    for from_ in (
        f"read_csv('{beside}')",
        f"\"read_csv\" ('{beside}')",
        "/* ' */ READ_CSV/**/('http://127.0.0.1:9/x')",
    ):
        with pytest.raises(UserError, match=r"(?i)read_csv\(\) reads a file, and query the tables alone"):
            main(f"SELECT (SELECT 1 FROM {from_}) FROM triplets", root=root)
    with pytest.raises(UserError, match=rf"what is no table here \(Csv SCAN .{beside}.\); expected one of "):
        main(f"SELECT $$'$$ AS a FROM read_csv('{beside}')", root=root)
    with pytest.raises(UserError, match="EXPLAIN would change a table or is no question"):
        main(f"EXPLAIN SELECT * FROM read_csv('{beside}')", root=root)
    main("SELECT 'FROM read_csv(1)' AS told FROM triplets", root=root, limit=1, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"told": "FROM read_csv(1)"}]


def test_a_table_has_one_version_in_a_query(root, capsys):
    write_triplets(root.open(), scored_rows([("another query", "a cat", 4.0, "a dog", -4.0)]))
    sql = "SELECT count(*) AS n FROM triplets"

    main(sql, at=["triplets@0", "triplets@0"], root=root, as_json=True)
    with pytest.raises(UserError, match="--at triplets@0 and --at triplets@1: expected one version of a table"):
        main(sql, at=["triplets@0", "triplets@1"], root=root)

    assert json.loads(capsys.readouterr().out) == [{"n": 60}]


def test_a_column_of_another_table_is_said_to_be_there(root):
    with pytest.raises(UserError, match=r"positive_score.*; expected FROM scored_triplets, which has it; "):
        main("SELECT avg(positive_score) FROM triplets", root=root)


def test_a_damaged_log_concerns_who_asks_for_its_table(root, capsys):
    (log,) = Path(root.tables, "scored_triplets", "_delta_log").glob("*0.json")
    log.write_text(log.read_text()[:50])

    main("SELECT COUNT(*) AS n FROM triplets", root=root)
    assert "60" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"log of .*scored_triplets is damaged"):
        main(SQL, root=root)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_disk_without_room_is_said_and_nothing_is_left(root, tmp_path, ending):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            main(SQL, output=str(tmp_path / f"answer.{ending}"), root=root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_in_the_background_of_its_terminal_no_pager_is_asked(root):
    """There the kernel stops whoever acts on the terminal, and both would wait forever."""
    query = [sys.executable, "-m", "jobs", "query", SQL, "--tables", root.tables]
    pid, terminal = pty.fork()
    if pid == 0:
        environment = os.environ | {"LINES": "10", "TERM": "xterm", "PAGER": "false"}
        with suppress(subprocess.TimeoutExpired):
            os._exit(subprocess.run(query, env=environment, process_group=0, timeout=60).returncode)
        os._exit(99)
    shown = b""
    with suppress(OSError):  # as its last reader ends, a terminal fails
        while read := os.read(terminal, 65536):
            shown += read

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert shown.count(b"a dog") >= 60
    assert b"pager" not in shown


def test_a_value_without_a_form_is_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"has no form here \(year 148108 is out of range\); expected CAST"):
        main("SELECT CAST(4611686018427387904 AS TIMESTAMP) AS a", root=root)
    with pytest.raises(UserError, match=r"has no form here \(.*duration.*\); expected CAST"):
        main("SELECT INTERVAL '5 days' AS d", root=root, output=str(tmp_path / "new.csv"))
    assert not (tmp_path / "new.csv").exists()


def test_the_first_rows_are_those_of_the_whole_answer(root, capsys, tmp_path):
    main(SQL, root=root, as_json=True)
    whole = json.loads(capsys.readouterr().out)
    main(SQL, root=root, as_json=True, limit=7)
    main(SQL, root=root, output=str(tmp_path / "rows.parquet"), limit=100)

    assert json.loads(capsys.readouterr().out.splitlines()[0]) == whole[:7]
    assert pl.read_parquet(tmp_path / "rows.parquet").to_dicts() == whole
    with pytest.raises(UserError, match="--limit 0: expected 1 to 4294967295 rows"):
        main(SQL, root=root, limit=0)


@pytest.mark.parametrize("columns", [72, 30])
def test_on_a_terminal_no_line_is_longer_and_the_pager_shows_what_has_no_room(root, tmp_path, monkeypatch, columns):
    shown, script = tmp_path / "shown", tmp_path / "pager.sh"
    script.write_text(f'#!/bin/sh\ncat > "{shown}"\n')
    script.chmod(0o755)
    for name, value in {"PAGER": str(script), "COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    master, slave = os.openpty()
    with open(slave, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", stream)
        main(SQL, root=root)
        main(SQL, root=root, limit=1)
        stream.flush()
        printed = written_to(master)
    os.close(master)

    lines = shown.read_text().splitlines()
    assert len(lines) > 60
    assert max(map(cell_len, [*lines, *printed.splitlines()])) <= columns
    assert 0 < len(printed.splitlines()) < 24
