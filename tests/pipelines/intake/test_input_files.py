"""The rows of Delta tables and of saved data sets: those that a reader of theirs would see, and no other."""

import json
import shutil

import pyarrow
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines import mine
from pipelines.intake.find_files import find_files
from pipelines.mine import MineConfig
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from tests.ingested import counts, row, rows_of, run, write


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def frame(*names, **others):
    return pyarrow.Table.from_pylist([row(name, **others) for name in names])


@pytest.fixture
def table(tmp_path):
    """Five versions: written, a row deleted, one with a further column added, compacted, another row deleted."""
    folder = tmp_path / "lake" / "books"
    folder.mkdir(parents=True)
    write_deltalake(folder, frame("a", "b", "c"))
    DeltaTable(folder).delete("query = 'b'")
    write_deltalake(folder, frame("d", source="x"), mode="append", schema_mode="merge")
    DeltaTable(folder).optimize.compact()
    DeltaTable(folder).delete("query = 'c'")
    return folder


def queries(tables):
    return sorted(query for (query,) in rows_of(tables, "triplets", "query"))


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        ("books", 4, ["a", "d"]),
        ("books/", 4, ["a", "d"]),
        ("books@0", 0, ["a", "b", "c"]),
        ("books@1", 1, ["a", "c"]),
        ("books@2", 2, ["a", "c", "d"]),
        ("books/@3", 3, ["a", "c", "d"]),
    ],
)
def test_a_delta_table_gives_the_rows_of_one_version(tables, table, capsys, given, version, expected):
    made = run(tables, f"{table.parent}/{given}")

    assert queries(tables) == expected
    assert f"{table} is a Delta table: its version {version} is read" in capsys.readouterr().err
    recorded = rows_of(tables, "ingested_files", "path", "rows", "source")
    assert recorded == [(f"{table}@{version}", len(expected), "books")]
    assert set(rows_of(tables, "triplets", "query", "source")) == {(q, "x" if q == "d" else "books") for q in expected}
    assert run(tables, f"{table}@{version}", f"{table.parent}/{given}") == made


def test_tables_in_a_folder_are_read_beside_its_files(tables, table, capsys):
    write(table.parent, row("e"), name="more/part-0.jsonl")
    run(tables, str(table.parent))

    assert queries(tables) == ["a", "d", "e"]
    assert {source for (source,) in rows_of(tables, "triplets", "source")} == {"lake", "x"}
    assert len(rows_of(tables, "ingested_files", "path")) == 2


def test_a_path_that_exists_is_meant_before_a_version(tables, table):
    shutil.copytree(table, f"{table}@1")
    DeltaTable(f"{table}@1").delete("query = 'a'")
    run(tables, f"{table}@1")

    assert queries(tables) == ["d"]


@pytest.mark.parametrize("inside", ["", "lang=de", "_delta_log"])
def test_a_part_of_a_table_is_refused(tmp_path, inside):
    write_deltalake(tmp_path / "t", frame("a", lang="de"), partition_by=["lang"])
    given = tmp_path / "t" / inside if inside else next((tmp_path / "t").glob("*/*.parquet"))
    (tmp_path / "link").symlink_to(given)

    for path in (given, tmp_path / "link"):
        with pytest.raises(UserError, match=f"lies in the Delta table {tmp_path}/t, .* give {tmp_path}/t, or"):
            find_files([str(path)])


@pytest.mark.parametrize("name", ["t", "a b", "é#文", "a%20b", "100%25", "-x", "q?*[1]"])
def test_partitions_and_names_of_any_kind_are_read(tables, tmp_path, name):
    values = ["de", None, "f/%", "é =?", "a%20b"]
    rows = [row(f"q{number}", source=value) for number, value in enumerate(values)]
    write_deltalake(tmp_path / "plain", pyarrow.Table.from_pylist(rows), partition_by=["source"])
    (tmp_path / "plain").rename(tmp_path / name)
    run(tables, str(tmp_path / name))

    assert dict(rows_of(tables, "triplets", "query", "source")) == {
        f"q{number}": name if value is None else value for number, value in enumerate(values)
    }


def log(folder, *actions, version=0):
    path = folder / "_delta_log" / f"{version:020}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, actions)))


def table_of_three(folder, *, features=(), configuration=None, deletion_vector=None):
    """A table of one file as another writer would log it."""
    folder.mkdir()
    path = folder / "part 0.parquet"
    pyarrow.parquet.write_table(frame("a", "b", "c"), path)
    fields = [{"name": name, "type": "string", "nullable": True, "metadata": {}} for name in row()]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    metadata = {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": configuration or {},
    }
    added = {"path": "part%200.parquet", "partitionValues": {}, "size": path.stat().st_size, "modificationTime": 1}
    added |= {"dataChange": True, "stats": '{"numRecords": 3}', "deletionVector": deletion_vector}
    log(folder, {"protocol": protocol}, {"metaData": metadata}, {"add": added})


ROW_1 = {
    "storageType": "i",
    "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000005c8Xg0rr91",
    "sizeInBytes": 34,
    "cardinality": 1,
}
"""A deletion vector of the second row: a roaring bitmap in base 85, as the protocol has it."""


def test_rows_that_a_deletion_vector_deletes_are_not_read(tables, tmp_path):
    table_of_three(tmp_path / "t", features=["deletionVectors"], deletion_vector=ROW_1)
    run(tables, str(tmp_path / "t"))

    assert queries(tables) == ["a", "c"]
    assert sorted(rows_of(tables, "triplets", "query", "source_row")) == [("a", 1), ("c", 2)]


@pytest.mark.parametrize(
    ("features", "configuration", "said"),
    [
        (["columnMapping"], {"delta.columnMapping.mode": "name"}, "columnMapping"),
        (["catalogManaged"], {}, "catalog-managed"),
        (["aFeatureToCome"], {}, "aFeatureToCome"),
    ],
)
def test_a_table_that_asks_more_of_its_reader_is_refused_by_name(tmp_path, features, configuration, said):
    table_of_three(tmp_path / "t", features=features, configuration=configuration)

    with pytest.raises(UserError, match=f"Delta table {tmp_path}/t .*{said}"):
        find_files([str(tmp_path / "t")])


def test_a_version_that_cannot_be_read_is_refused_by_name(table, capsys):
    with pytest.raises(UserError, match=f"{table} has no version 9; its newest is 4"):
        find_files([f"{table}@9"])
    DeltaTable(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(UserError, match=rf"version 0 of .*{table} lacks 1 of its 1 data files.*vacuumed.*@VERSION"):
        find_files([f"{table}@0"])
    assert find_files([str(table)])
    (table / "_delta_log/00000000000000000000.json").unlink()
    with pytest.raises(UserError, match=f"{table}"):
        find_files([f"{table}@1"])


def test_a_version_without_rows_is_refused(tables, table):
    DeltaTable(table).delete()

    with pytest.raises(UserError, match="@5 is a Delta table without rows"):
        run(tables, str(table))


def test_tables_of_our_own_are_inputs(tables, tmp_path):
    run(tables, write(tmp_path, row("a", source="x", external_id="7"), row("b"), name="first.jsonl"))
    run(tables, write(tmp_path, row("c"), name="second.jsonl"))
    other = Tables.at(str(tmp_path / "other"))
    run(other, tables.path("triplets@0"))

    assert sorted(rows_of(other, "triplets", "query", "source", "external_id")) == [
        ("a", "x", "7"),
        ("b", "first", None),
    ]
    mined = Tables.at(str(tmp_path / "mined"))
    config = MineConfig(first_rank=1, last_rank=2, negatives_per_query=1, random_negatives=0)
    write_deltalake(tmp_path / "passages", pyarrow.table({"text": ["a lion", "a tiger"]}))
    mine.run(mined, [tables.path("triplets")], config, passages=str(tmp_path / "passages"))
    assert counts(mined) == [[3, 3, 0, 0]]


def save(folder, *names):
    """As datasets.save_to_disk does, beside what map() leaves there."""
    folder.mkdir(parents=True)
    files = [f"data-{number:05}-of-{len(names):05}.arrow" for number in range(len(names))]
    for name, file in zip(names, files, strict=True):
        with pyarrow.ipc.new_stream(folder / file, frame(name).schema) as writer:
            writer.write_table(frame(name))
    shutil.copy(folder / files[0], folder / "cache-0123456789abcdef.arrow")
    state = {"_data_files": [{"filename": file} for file in files], "_fingerprint": "1", "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text('{"features": {}}')


def test_a_saved_data_set_gives_its_rows(tables, tmp_path, capsys):
    save(tmp_path / "mine", "a", "b")
    run(tables, str(tmp_path / "mine"))

    assert sorted(rows_of(tables, "triplets", "query", "source")) == [("a", "mine"), ("b", "mine")]
    assert "cache-0123456789abcdef.arrow" in capsys.readouterr().err


def test_all_splits_of_a_saved_data_set_are_read_and_named(tables, tmp_path, capsys):
    for split in ("train", "test"):
        save(tmp_path / "mine" / split, split)
    (tmp_path / "mine/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    run(tables, str(tmp_path / "mine"))

    assert queries(tables) == ["test", "train"]
    assert "is a data set whose splits are all read: train, test" in capsys.readouterr().err
