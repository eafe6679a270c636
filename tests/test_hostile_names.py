"""Any name of a folder: the tables in it are right through every library that reads them, or it is refused by name.

HOSTILE_NAMES=1000 python -m pytest tests/test_hostile_names.py   # as many names
"""

import os
import random
import re
import shutil
import unicodedata
from pathlib import Path

import polars as pl
import pytest
from pyarrow import fs

from pipelines import publish
from pipelines.checkpoints.find import find
from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import RunFolder
from pipelines.inspection.queries import ask
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version, replace_rows
from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student
from schemas import CuratedTriplets, Evaluations, Models, Triplets
from tests.rows import frame_of
from tests.tiny import tiny_encoder

LISTED = [
    *("a b", " a ", "'a'", 'a"b', "caf\u00e9", "cafe\u0301", "文", "😀", "a#b", "a?b", "a%b", "%zz", "50%", "&+;="),
    *("a*", "**", "{a}", "-x", "--tables", "~", "~nosuch", "$HOME", "a:b", "s3:", "C:", "...", ".hidden", "@", "a,b"),
    *("(a)!", "`a`", "<a>", "\u200b", "\u202e", "\x80", "\u2028", "\ufeff", "con", "a.csv", "x" * 255),
    *("a%20b", "100%25", "%2F", "%2e%2E", "a[1]", "]", "a\\b", "a^b", "a|b", "a\nb", "a\tb", "\x01", "\x7f", "\udcff"),
]
PIECES = [*"abcdefABCDEF0123456789 .-_~'\"#?%&+;=*{}:@$!(),<>`é文😀\u0301\u00a0\u200b"]
PIECES += ["://", "/", "//", "s3:", "%2", "[x]", "\\"]
IN_A_URL = ["a b", "caf\u00e9", "a#b", "a?b", "50%", "&+;=", "{a}", "a%20b", "a\nb", "\udcff"]
"""For S3, where each takes seconds."""

REFUSED = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|%[0-9a-fA-F]{2}")
"""What the tables' root may not hold, said once more."""

NUM_NAMES = int(os.environ.get("HOSTILE_NAMES", 60))
ROWS = frame_of(Triplets, *({"query": f"query {number}"} for number in range(5)))
EVALUATION = frame_of(Evaluations)


def hostile_names(count: int) -> list[str]:
    """The names above, then names made of hostile pieces and of any assigned characters; the same ones each time."""
    rng = random.Random(12)
    names = dict.fromkeys(LISTED)
    while len(names) < count:
        anything = map(chr, rng.choices(range(0x20, 0x2FA1F), k=4))
        assigned = [one for one in anything if unicodedata.category(one) not in ("Cn", "Cs", "Co")]
        name = "".join(rng.sample([*PIECES, *assigned], rng.randrange(2, 9)))
        if not {".", ".."} & {*name.split("/")}:
            names[name.strip("/")] = None
    return list(names)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two versions of triplets and a model."""
    root = tmp_path_factory.mktemp("plain")
    tables = Tables.at(str(root / "tables"))
    append(tables, ROWS[:2])
    replace_rows(tables, Evaluations, EVALUATION, ["model_id"], Lineage("evaluate", [], Config()))
    curated = frame_of(CuratedTriplets, {})
    with new_version(tables, CuratedTriplets, Lineage("curate", [], Config())) as version:
        version.write(curated)
    folder = Path(tables.path("models", "small", "model"))
    source = {"source_model": tiny_encoder(root / "source"), "layers": "first", "num_layers": 1}
    initialise_student(DistillConfig(dimensions=(32,), max_tokens=16, **source)).save(str(folder))
    sha256 = weights_sha256(folder)
    row = {"model_id": f"small@{sha256[:12]}", "name": "small", "weights_sha256": sha256, "uri": str(folder)}
    row |= {"curated_version": "curated_triplets@0", "recipe": "{}", "code": "{}", "engine": "{}"}
    with new_version(tables, Models, Lineage("distill", [version.version], Config())) as models:
        models.write(frame_of(Models, row))
    return root / "tables"


def append(tables: Tables, rows: pl.DataFrame) -> None:
    with new_version(tables, Triplets, Lineage("ingest", [], Config())) as version:
        version.write(rows)


def check(tables: Tables) -> None:
    """Write, read, time travel, query, replace, lock and find the model."""
    append(tables, ROWS[2:])
    newest = tables.latest("triplets")
    assert newest is not None
    assert newest.commit.stage == "ingest"
    assert len(tables.parse("triplets@0").scan().collect()) == 2
    assert len(newest.delta.to_pyarrow_table()) == newest.num_rows() == 5
    assert ask(tables, "SELECT query FROM triplets ORDER BY query")["query"].to_list() == ROWS["query"].to_list()
    replaced = replace_rows(tables, Evaluations, EVALUATION, ["model_id"], Lineage("evaluate", [], Config()))
    assert (replaced.version, len(replaced.scan().collect())) == (1, 1)
    with RunFolder(tables, "small").lock():
        assert RunFolder(tables, "small").read("lock.json") is not None
    assert (find(tables.path("models", "small", "model")) / "model.safetensors").is_file()


@pytest.mark.parametrize("part", range(2))
def test_tables_and_publications_are_right_under_any_name_or_refused_by_name(plain, tmp_path, part):
    names = hostile_names(NUM_NAMES)[part::2]
    held = [name for name in names if not REFUSED.search(name)]
    assert len(names) >= NUM_NAMES // 2 > 0
    assert len(held) > NUM_NAMES // 4
    for number, name in enumerate(names):
        root = tmp_path / str(number)
        if REFUSED.search(name):
            with pytest.raises(UserError, match=r"Delta library|not UTF-8"):
                Tables.at(str(root / name))
            assert not root.exists()
        else:
            shutil.copytree(plain, root / name / "tables")
            check(Tables.at(str(root / name / "tables")))
        if not re.search("[\ud800-\udfff]", name):
            to = publish.run(Tables.at(str(plain)), "small", str(root / name / "model"))
            assert weights_sha256(Path(to)) == weights_sha256(plain / "models" / "small" / "model")
            assert [path.name for path in (root / name).iterdir() if path.name[0] == "."] == []


def test_so_are_prefixes_on_s3(plain, tmp_path, monkeypatch, bucket):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    s3 = Tables.at(bucket).filesystem()[0]
    for name in IN_A_URL:
        if re.search(r"[\x00-\x1f\x7f\x80\u2028\ud800-\udfff]|%[0-9a-fA-F]{2}", name):
            with pytest.raises(UserError, match=r"Delta library|not UTF-8"):
                Tables.at(f"{bucket}/{name}")
            continue
        tables = Tables.at(f"{bucket}/{name}/tables")
        fs.copy_files(str(plain), tables.filesystem()[1], fs.LocalFileSystem(), s3)
        check(tables)
        to = publish.run(tables, "small", f"{bucket}/{name}/published")
        assert weights_sha256(find(to)) == weights_sha256(plain / "models" / "small" / "model")
