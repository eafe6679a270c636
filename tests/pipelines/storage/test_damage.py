"""Which data file is damaged: found by reading, whichever version of whichever table it belongs to."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.stage.errors import UserError
from pipelines.storage.damage import find_damage, is_damage, undamaged, why_damaged_inside
from tests import ingested


def garble(file: Path) -> None:
    """Other bytes of the same number: what sizes and ends do not tell."""
    content = file.read_bytes()
    file.write_bytes(content[:4] + bytes(len(content) - 8) + content[-4:])


@pytest.fixture
def versions(tables, tmp_path):
    """Two ingests, each with a file of its own."""
    for name in ("first", "second"):
        ingested.run(tables, ingested.write(tmp_path, ingested.row(query=name), name=f"{name}.jsonl"))
    return [tables.parse(f"triplets@{number}") for number in (0, 1)]


def files(version) -> list[Path]:
    return [Path(version.tables.path(version.name, file["path"])) for file in version.files()]


def test_the_file_of_the_oldest_version_that_has_it_is_found(tables, versions):
    assert find_damage(tables) is None
    (first,) = files(versions[0])
    garble(first)

    assert why_damaged_inside(versions[0]).startswith(f"has a damaged data file, {first} (")
    assert find_damage(tables).startswith(f"triplets@1 has a damaged data file, {first} (")
    with pytest.raises(UserError, match=r"triplets@0 has a damaged data file, .*; bring it back from a copy$"):
        undamaged(versions[0])


def test_files_that_are_known_are_not_read_again(tables, versions):
    known = set[str]()
    assert why_damaged_inside(versions[1], known) is None
    garble(files(versions[0])[0])

    assert len(known) == 2
    assert why_damaged_inside(versions[0], known) is None
    assert undamaged(None) is None


def test_an_error_of_the_question_is_no_damage(tables, versions):
    with pytest.raises(pl.exceptions.PolarsError) as raised:
        versions[0].scan().select("no such column").collect()

    assert not is_damage(raised.value)
    assert not is_damage(OSError("parquet error: "))


def test_each_table_that_is_damaged_is_named_or_those_that_are_asked_about(tables, versions):
    garble(files(versions[0])[0])
    for file in files(tables.latest("ingested_files")):
        garble(file)

    assert re.findall(r"(\w+@\d) has a damaged", find_damage(tables)) == ["ingested_files@1", "triplets@1"]
    assert find_damage(tables, ["triplets"]).startswith("triplets@1 has a damaged")
    assert find_damage(tables, ["curated_triplets"]) is None
    Path(tables.path("ingested_files", "_delta_log", f"{0:020}.json")).write_text("{")
    assert find_damage(tables).startswith("triplets@1 has a damaged")


def refusal(version) -> BaseException | None:
    try:
        version.open().collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return error
    return None


def test_whatever_a_reader_stumbles_over_is_found(versions):
    """Some bytes of a file, wherever they stand: where Polars refuses them or panics, the file is named."""
    (file,) = files(versions[0])
    content, refused = file.read_bytes(), 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        start = int(random.integers(4, len(content) - 16))
        file.write_bytes(content[:start] + random.bytes(8) + content[start + 8 :])
        if error := refusal(versions[0]):
            refused += 1
            assert is_damage(error), f"seed {seed}: {error}"
            assert str(file) in why_damaged_inside(versions[0]), f"seed {seed}: {error}"
    assert refused > 10
