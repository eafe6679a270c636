"""Rows on disk come back as blocks of whole queries, in memory that does not grow with the input."""

from itertools import pairwise

from pipelines.intake import spill
from pipelines.storage import Tables
from tests.ingested import row, run, write


def test_memory_holds_one_partition_at_a_time_and_a_query_stays_whole(tmp_path, monkeypatch):
    tables = Tables.at(str(tmp_path / "tables"))
    monkeypatch.setattr(spill, "BUFFER_BYTES", 2000)
    monkeypatch.setattr(spill, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(spill, "FRAME_ROWS", 10)
    run(tables, write(tmp_path, *[row(f"q{i % 50}", "p", f"n{i}") for i in range(500)]))
    files = tables.latest("triplets").files()
    ranges = sorted((file["min.query_id"], file["max.query_id"]) for file in files)

    assert sum(file["num_records"] for file in files) == 500
    assert len(files) > 10
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_the_number_of_partitions_follows_the_size_of_the_input(tmp_path):
    assert [spill.Spill(tmp_path, size).digits for size in (1, 10 << 20, 1 << 30, 1 << 40)] == [1, 1, 2, 3]
