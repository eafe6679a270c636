"""Versions of tables: readable for ever, cut into ranges of whole queries, refused where there is none."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.storage.ranges import bucket_ranges


def test_an_old_version_keeps_its_rows(append, tables):
    before = append(tables, 0, 3)
    after = append(tables, 3, 2)

    assert (str(before), str(after)) == ("triplets@0", "triplets@1")
    assert [len(version.scan().collect()) for version in (before, after)] == [3, 5]


def test_ranges_hold_whole_queries_and_together_every_row_once(append, tables):
    append(tables, 0, 40)
    version = append(tables, 40, 60)

    frames = list(version.read_by_query_range(max_rows=15))

    assert max(map(len, frames)) <= 15
    assert pl.concat(frames).sort("triplet_id").equals(version.scan().collect().sort("triplet_id"))
    assert version.num_rows() == 100
    upper = ""
    for frame in frames:
        assert frame["query_id"].min() > upper
        upper = frame["query_id"].max()


def test_buckets_are_grouped_up_to_the_limit_and_a_large_one_stands_alone():
    ranges = bucket_ranges({"000": 4, "001": 5, "7ff": 30, "fff": 2}, 10)

    assert ranges == [("000", "001g"), ("7ff", "7ffg"), ("fff", "fffg")]


def test_a_root_made_anew_is_another_table(append, tmp_path):
    identities = []
    for name in ("one", "two"):
        identities.append(append(Tables.at(str(tmp_path / name)), 0, 2).identity())

    assert identities[0]["version"] == identities[1]["version"]
    assert identities[0]["table_id"] != identities[1]["table_id"]
    assert identities[0]["digest"] != identities[1]["digest"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("triplets@9", "triplets has the versions 0 to 0"),
        ("curated_triplets@0", "there is no table curated_triplets"),
        ("nothing@0", "'nothing' is no table; expected one of ingested_files"),
        ("triplets", "expected TABLE@VERSION"),
    ],
)
def test_a_version_that_does_not_exist_is_refused_with_what_exists(append, tables, text, told):
    append(tables, 0, 1)

    with pytest.raises(UserError, match=told):
        tables.parse(text)


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(UserError, match="file is a file; expected a folder"):
        Tables.at(str(tmp_path / "file" / "below"))


def test_a_root_is_what_its_links_lead_to(append, tmp_path):
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "é").mkdir()
    for name, target in {"percent": "a%20b", "accent": "é", "dangling": "nothing"}.items():
        (tmp_path / name).symlink_to(target)

    append(Tables.at(f"{tmp_path}/nothing/../accent//./"), 0, 2)

    assert len(Tables.at(str(tmp_path / "é")).parse("triplets@0").scan().collect()) == 2
    with pytest.raises(UserError, match="a%20b' can be no root: '%20' in it means something else to the Delta library"):
        Tables.at(str(tmp_path / "percent"))
    with pytest.raises(UserError, match="dangling is a link to nothing; expected a folder"):
        Tables.at(str(tmp_path / "dangling" / "tables"))


def test_a_table_that_is_a_link_to_nothing_is_not_taken_for_none(tables):
    Path(tables.uri).mkdir(exist_ok=True)
    Path(tables.path("triplets")).symlink_to("/a/disk/that/is/not/there")

    with pytest.raises(UserError, match="/triplets is a link to nothing; is its disk there"):
        tables.latest("triplets")


def test_a_root_is_no_pattern_for_the_copies_beside_it(append, tmp_path):
    version = append(Tables.at(str(tmp_path / "a*[1]?")), 0, 2)
    for copy in ("aX1Y", "a1", "a*1?"):
        shutil.copytree(tmp_path / "a*[1]?", tmp_path / copy)

    assert len(version.scan().collect()) == 2
    assert version.scan().select(pl.len()).collect(engine="streaming").item() == 2


@pytest.mark.parametrize("prefix", ["100%25", "a%20b", "a//b", "./a", "a/..", "a\nb"])
def test_a_prefix_that_a_library_takes_for_another_is_refused_by_name(prefix):
    with pytest.raises(UserError, match="means something else to the Delta library"):
        Tables.at(f"s3://bucket/{prefix}")


def test_a_prefix_is_quoted_for_those_who_read_urls():
    tables = Tables.at("s3://bucket/a b/é#?*[%]/")

    assert tables.path("triplets") == "s3://bucket/a b/é#?*[%]/triplets"
    assert tables.url("triplets") == "s3://bucket/a%20b/%C3%A9%23%3F%2A%5B%25%5D/triplets"


def test_rows_that_another_program_deleted_by_a_vector_are_not_read_whatever_the_folder_is_called(append, tmp_path):
    written = append(Tables.at(str(tmp_path / "a b'é*?")), 0, 5)
    log = tmp_path / "a b'é*?" / "triplets" / "_delta_log"
    added = next(line for line in (log / f"{0:020}.json").read_text().splitlines() if line.startswith('{"add"'))
    add = json.loads(added)["add"]
    vectors = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": vectors, "writerFeatures": vectors}
    second_and_fourth = {
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg0rri4",
        "sizeInBytes": 36,
        "cardinality": 2,
    }
    actions = [
        {"protocol": protocol},
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": add | {"deletionVector": second_and_fourth}},
        {"commitInfo": {"operation": "DELETE"}},
    ]
    (log / f"{1:020}.json").write_text("\n".join(map(json.dumps, actions)))

    before = written.scan().collect()["query"].to_list()
    after = written.tables.parse("triplets@1").scan().collect()["query"].to_list()
    assert (len(before), after) == (5, before[::2])


@pytest.mark.parametrize("root", ["s3://", "s3://A bucket/x", "gs://bucket/x"])
def test_a_root_of_another_form_is_refused(root):
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        Tables.at(root)
