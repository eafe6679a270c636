"""A place that cannot be written, or has no room, is told before the work."""

import shutil

import pytest

from pipelines.stage.disk import check_room, check_writable
from pipelines.stage.errors import UserError


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("/proc/new/folder", "--to /proc/new/folder cannot be written: No such file or directory; name another"),
        ("{file}", "{file} is a file; expected a folder"),
        ("{file}/below", "{file} is a file; expected a folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place, message):
    (tmp_path / "file").touch()

    with pytest.raises(UserError, match=message.format(file=tmp_path / "file")):
        check_writable(place.format(file=tmp_path / "file"), "--to")


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    for place in (tmp_path, tmp_path / "not" / "there yet", "s3://bucket/prefix"):
        check_writable(place, "--to")
        check_room(place, 1, "score")

    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_and_far_too_little_refused(tmp_path, capsys):
    free = shutil.disk_usage(tmp_path).free

    check_room(tmp_path / "new", 1.5 * free, "score")
    assert "score will take about " in capsys.readouterr().err
    with pytest.raises(UserError, match=r"score will take about .* GB below .*/new, where .* GB are free; make room"):
        check_room(tmp_path / "new", 3 * free, "score")
