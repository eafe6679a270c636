"""Tags name a version for good: made once, never moved, taken wherever a version is named, refused where they lie."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.stage.errors import UserError
from pipelines.storage.tags import add_tag, all_tags, find_tag, remove_tag


def test_a_tag_serves_as_the_version_until_it_is_removed(append, tables):
    first, second = append(tables, 0, 2), append(tables, 2, 2)
    add_tag(first, "golden", "the one we shipped")
    add_tag(second, "later.2")

    assert tables.parse("golden") == first
    assert [(tag.name, tag.version.version, tag.note) for tag in all_tags(tables)] == [
        ("golden", "triplets@0", "the one we shipped"),
        ("later.2", "triplets@1", ""),
    ]
    assert remove_tag(tables, "golden").version.version == "triplets@0"
    with pytest.raises(UserError, match="'golden' is no table version; expected TABLE@VERSION"):
        tables.parse("golden")


def test_a_tag_is_never_moved_and_the_same_again_changes_nothing(append, tables):
    first, second = append(tables, 0, 2), append(tables, 2, 2)
    made = add_tag(first, "golden")

    assert add_tag(first, "golden", "again") == made
    with pytest.raises(UserError, match=r"it is triplets@0, not triplets@1; .*jobs tag --remove golden"):
        add_tag(second, "golden")
    assert tables.parse("golden") == first


def test_of_rivals_for_a_name_one_wins(append, tables):
    versions = [append(tables, 2 * number, 2) for number in range(4)]

    def attempt(version):
        try:
            return add_tag(version, "golden").version.version
        except UserError:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = [name for name in pool.map(attempt, versions) if name]
    assert won == [str(tables.parse("golden"))]


@pytest.mark.parametrize("name", ["", "a@b", "../up", "a/b", "-x", "triplets", "é", "x" * 101])
def test_what_can_be_no_tag_is_refused(append, tables, name):
    with pytest.raises(UserError, match="can be no tag; expected at most 100 letters"):
        add_tag(append(tables, 0, 1), name)
    assert not Path(tables.path("tags")).exists()


def test_a_tag_that_is_not_there_or_damaged_is_said(append, tables):
    add_tag(append(tables, 0, 1), "golden")
    with pytest.raises(UserError, match=r"there is no tag 'silver' under .*; found golden"):
        remove_tag(tables, "silver")

    Path(tables.path("tags"), "golden.json").write_text('{"name": ')

    with pytest.raises(UserError, match=r"tags/golden.json is no tag any more"):
        find_tag(tables, "golden")


def test_a_version_that_cannot_be_used_gets_no_tag_and_a_table_made_anew_is_another(append, tables):
    version = append(tables, 0, 2)
    add_tag(version, "golden")
    data = Path(tables.path("triplets"))
    data.rename(data.with_name("old"))
    append(tables, 0, 2)

    with pytest.raises(UserError, match="the table was made anew"):
        tables.parse("golden")
    again = append(tables, 2, 2)
    Path(tables.path("triplets"), again.files()[0]["path"]).unlink()
    with pytest.raises(UserError, match="triplets@1 lacks 1 of its 2 data files"):
        add_tag(tables.parse("triplets@1"), "silver")
