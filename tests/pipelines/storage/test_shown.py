"""What a notebook shows of a root and a version: no text of the data is markup, no recipe or credentials are told."""

import re
from pathlib import Path

import pytest

from pipelines.storage import Invocation, Tables
from pipelines.storage.commits import CurationResult, OutcomeCount
from tests.scored_versions import scored_rows, write_scored, write_triplets

HOSTILE = "<script>alert('x')</script> & \n more " + "x" * 200


@pytest.fixture
def scored(tmp_path):
    tables = Tables.at(str(tmp_path / "a & b"), Invocation({"score": {"teacher": "secret"}}, note="<b>why</b>"))
    rows = scored_rows([(f"{HOSTILE} {number}", "a cat", 4.0, f"a dog {number}", -4.0) for number in range(7)])
    return write_scored(write_triplets(tables, rows), rows)


def test_a_root_and_a_version_say_what_and_where_on_a_line(scored, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")

    assert repr(scored) == f"<scored_triplets@1 under {scored.tables.uri}>"
    assert repr(scored.tables) == f"<tables under {scored.tables.uri}>"
    assert repr(Tables.at("s3://bucket/prefix")) == "<tables under s3://bucket/prefix>"


def test_a_notebook_shows_rows_columns_and_origin_with_all_texts_escaped(scored):
    html = scored._repr_html_()

    assert html.startswith(f"<div><b>scored_triplets@1</b> under {scored.tables.uri.replace('&', '&amp;')}: 7 rows, ")
    assert "made by score from triplets@0; note: &lt;b&gt;why&lt;/b&gt;</div>" in html
    assert set(re.findall(r"</?(\w+)", html)) == set("div b table thead tbody tr th td br small".split())
    assert html.count("<tr>") == 1 + 5
    assert re.findall(r"<th>(\w+)<br>", html) == scored.scan().collect_schema().names()
    assert "<td>&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more xxx" in html
    assert "x" * 61 not in html
    assert "secret" not in html


def test_a_version_whose_files_are_gone_says_so_in_its_place(scored):
    for file in Path(scored.tables.path("scored_triplets")).glob("**/*.parquet"):
        file.unlink()

    html = scored.tables.parse("scored_triplets@1")._repr_html_()

    assert html.startswith("<div><b>scored_triplets@1</b> under ")
    assert "no other version of it can be taken" in html
    assert "<table>" not in html


def test_a_version_with_a_damaged_file_names_it_in_its_place(scored):
    (file,) = Path(scored.tables.path("scored_triplets")).glob("*.parquet")
    file.write_bytes(b"PAR1" + bytes(file.stat().st_size - 8) + b"PAR1")

    html = scored.tables.parse("scored_triplets@1")._repr_html_()

    assert f"{file.name} (" in html
    assert html.startswith("<div><b>scored_triplets@1</b> under ")
    assert "has a damaged data file" in html
    assert "<table>" not in html


def test_a_root_shows_the_newest_of_each_table_and_what_cannot_be_read(scored):
    empty = Tables.at(scored.tables.path("empty"))
    assert empty._repr_html_() == f"<div>no tables under {empty.uri.replace('&', '&amp;')}</div>"

    html = scored.tables._repr_html_()

    assert f"tables under {scored.tables.uri.replace('&', '&amp;')}</div>" in html
    assert "<td>triplets@0</td><td>7</td><td>" in html
    made = "<td>by score from triplets@0; note: &lt;b&gt;why&lt;/b&gt;</td>"
    assert f"<tr><td>scored_triplets@1</td><td>7</td>{made}</tr>" in html
    (Path(scored.tables.path("triplets")) / "_delta_log" / f"{0:020}.json").write_text("{")
    assert re.search('<tr><td>triplets</td><td colspan="2">the log of .* is damaged', scored.tables._repr_html_())


def test_a_commit_and_a_curations_result_fit_a_line(scored):
    assert repr(scored.commit) == (
        "Commit(stage='score', operation='WRITE', inputs=['triplets@0'], note='<b>why</b>', "
        "result=<class 'pipelines.storage.commits.ScoringResult'>)"
    )
    counts = (OutcomeCount(source=f"s{n}", outcome=of, rows=n) for n in range(999) for of in ("kept", "dropped"))
    result = CurationResult(curation="0123456789ab", teacher="t@0123456789ab", counts=tuple(counts))
    assert repr(result) == (
        "CurationResult(curation='0123456789ab', teacher='t@0123456789ab', kept=498501, dropped=498501)"
    )
