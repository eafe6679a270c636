"""What is held of a passage stays small, whatever is mined."""

import json
import subprocess
import sys

import pytest

MINED = """
import sys
from pipelines.benchmarks.memory import peak_memory_mb
from pipelines.mine import MineConfig, run
from pipelines.storage import Tables
root, pairs, passages = sys.argv[1:]
run(Tables.at(root), [pairs], MineConfig(miners=()), passages=passages)
print(peak_memory_mb())
"""


@pytest.mark.slow
def test_the_memory_of_mining_grows_by_less_than_300_bytes_a_passage(tmp_path):
    peaks = {}
    for size in (20_000, 100_000):
        files = {"pairs": [{"query": f"who is {n}", "positive": f"{n} is one of them"} for n in range(1_000)]}
        files["passages"] = [{"text": " ".join(f"{n} {n * place}" for place in range(9))} for n in range(size)]
        for name, rows in files.items():
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        asked = [str(tmp_path / name) for name in (f"tables{size}", "pairs.jsonl", "passages.jsonl")]
        mined = subprocess.run([sys.executable, "-c", MINED, *asked], capture_output=True, text=True, check=True)
        peaks[size] = float(mined.stdout)

    assert (peaks[100_000] - peaks[20_000]) * 2**20 / 80_000 < 300
