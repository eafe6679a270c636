"""A path as it was typed: taken literally where something is called so, and refused by name where it can be none."""

import pytest

from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "--to is empty; expected a path, such as ./name"),
        ("x" * 300, "--to 'x+' leads nowhere: File name too long"),
        ("~nosuch/x", "--to ~nosuch/x: no such user; expected a path"),
        ("\udcff", r"--to '.*/\\udcff' has a name in it that is not UTF-8; rename it"),
        ("a\0b", r"--to 'a\\x00b' leads nowhere: embedded null byte"),
        ("circle", "--to 'circle' leads nowhere: Too many levels of symbolic links"),
    ],
)
def test_what_can_be_no_path_is_refused_by_name(tmp_path, monkeypatch, text, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")

    with pytest.raises(UserError, match=told):
        path_of(text, "--to")


def test_a_tilde_is_the_home_folder_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "~backup.csv").touch()

    assert str(path_of("~/tables", "--tables")) == "/home/me/tables"
    assert str(path_of("~backup.csv", "--input")) == "~backup.csv"
