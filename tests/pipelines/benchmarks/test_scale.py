"""`bench scale`: the corpus that is asked for, a command's own memory, and the figures of each command."""

import sys

import polars as pl
import pytest

from pipelines.benchmarks.scale import NEGATIVES, Plan, grow, of_passages, run, write_corpus
from pipelines.stage.errors import UserError


def test_a_corpus_has_so_many_different_triplets_and_is_the_same_each_time(tmp_path):
    write_corpus(tmp_path / "once", 1003)
    write_corpus(tmp_path / "again", 1003)

    rows = pl.read_parquet(tmp_path / "once")
    assert len(rows) == len(rows.unique()) == 1003
    assert rows["query"].n_unique() == -(-1003 // NEGATIVES)
    assert rows.unique(["query", "positive"]).height == rows["query"].n_unique()
    assert rows.equals(pl.read_parquet(tmp_path / "again"))


def test_the_memory_is_of_the_process_and_a_failure_is_told():
    script = "import time; held = bytearray({} * 2**20); time.sleep(.5)"
    small, large = (run([sys.executable, "-c", script.format(mib)])["peak_mb"] for mib in (1, 301))
    assert 290 < large - small < 310

    with pytest.raises(UserError, match="ended with 3: told why"):
        run([sys.executable, "-c", "import sys; print('told why'); sys.exit(3)"])


@pytest.mark.slow
def test_each_command_is_measured_and_compared_with_the_fewest_rows(tmp_path):
    figures = list(grow(Plan([500, 2000], tmp_path)))

    commands = ["ingest", "score", "curate", "diff"]
    assert [(one["rows"], one["command"]) for one in figures] == [(n, one) for n in (500, 2000) for one in commands]
    assert all(one["peak_mb"] > 100 and one["seconds"] > 0 and one["bytes_per_row"] > 0 for one in figures)
    assert [one for one in figures if "seconds_over_first" in one] == figures[4:]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mining_is_measured_with_its_workers_and_again_without_encoding(tmp_path):
    figures = list(grow(Plan([500, 2000], tmp_path), of_passages))

    assert [(one["rows"], one["command"]) for one in figures] == [
        (n, one) for n in (500, 2000) for one in ("mine", "mine again")
    ]
    assert all((one["worker_mb"] > 100) == (one["command"] == "mine") for one in figures)
