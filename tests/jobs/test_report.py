"""`report` as a user types it: where the file is printed, and each refusal before anything is written."""

import os
import stat

import pytest

from jobs.options import RootOptions
from jobs.report import main
from pipelines.stage.errors import UserError
from tests.in_process import run_jobs
from tests.reported import reported


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return RootOptions(tables=reported(tmp_path_factory.mktemp("report"), 12).tables.uri)


def test_the_file_is_printed_and_written_whole_over_an_earlier_report(root, tmp_path, capsys):
    target, modes = tmp_path / "report.html", []
    for options in ([], ["--against", "curated_triplets@0", "--model", "small"]):
        code = run_jobs("report", "--tables", root.tables, "--to", target, *options)

        assert (code, capsys.readouterr().out) == (0, f"{target}\n")
        modes.append(stat.S_IMODE(target.stat().st_mode))
        target.chmod(0o600)  # its texts are of the data: who may read them stays as it was
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>")
    assert 'Against <a href="#curated_triplets@0">' in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert modes[0] & 0o400
    assert modes[1] == 0o600


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": "none/report.html"}, r"--to .*none/report.html: there is no folder .*none; make it"),
        ({"to": "new/"}, r"--to .*new/ is a folder; expected a file, for example .*new/report.html"),
        ({"to": "."}, r"--to .* is a folder; expected a file, for example .*report.html"),
        ({"to": "mine.html"}, r"--to .*mine.html is no report; expected a new file or an earlier report"),
        ({"to": "pipe"}, r"--to .*pipe is no file, or a link to none; expected a new file or an earlier report"),
        ({"to": "link"}, r"--to .*link is no file, or a link to none; expected a new file or an earlier report"),
        ({"to": "s3://bucket/report.html"}, r"--to s3://bucket/report.html: expected a file of this machine"),
        ({"from_": "curated_triplets@9"}, r"curated_triplets@9"),
        ({"from_": "triplets@0"}, r"expected a version of curated_triplets"),
        ({"against": "curated_triplets@9"}, r"curated_triplets@9"),
        ({"against": "triplets@0"}, r"triplets@0 is no curation; expected a version of curated_triplets"),
        ({"model": ["large"]}, r"there is no model 'large' .*found: small"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_nothing_is_written(root, tmp_path, given, told):
    (tmp_path / "mine.html").write_text("my own page")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    to = given.get("to", "report.html")
    place = {"to": to if "://" in to else f"{tmp_path}/{to}"}

    with pytest.raises(UserError, match=told):
        main(**{**given, **place}, root=root)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.html", "pipe", "link"}
    assert (tmp_path / "mine.html").read_text() == "my own page"


def test_without_a_curation_the_command_that_makes_one_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"there is no table curated_triplets under .*; run `python -m jobs curate` first"
    ):
        main(to=str(tmp_path / "report.html"), root=RootOptions(tables=str(tmp_path / "tables")))
