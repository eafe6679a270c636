"""Files of passages as rows: each text once, with what the user knows of it."""

import json

import pytest

from pipelines.generation.passages import AS_FOUND, Told, read_passages
from pipelines.intake.find_files import find_files
from pipelines.intake.layouts import RowChecks
from pipelines.stage.errors import UserError
from pipelines.storage.erased import hashed
from pipelines.texts.ids import text_id


def read(tmp_path, *rows, told=AS_FOUND, erased=frozenset(), most=100, name="notes.jsonl"):
    (tmp_path / name).write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return read_passages(find_files([str(tmp_path / name)]), told, RowChecks(max_bad_share=0.5), most, erased)


def test_a_passage_is_its_title_and_text_and_keeps_its_key(tmp_path):
    rows = read(tmp_path, {"title": "Fish", "text": "swim", "external_id": 7, "source": "zoo"}, {"passage": "birds"})

    assert rows.passages["passage_id"].is_sorted()
    told = {row["passage"]: row for row in rows.passages.to_dicts()}
    fish, birds = told["Fish swim"], told["birds"]
    assert (fish["passage_id"], fish["external_id"], fish["source"], fish["source_row"]) == (
        text_id("Fish swim"),
        "7",
        "zoo",
        1,
    )
    assert (birds["external_id"], birds["source"], birds["source_row"]) == (None, "notes", 2)


def test_columns_and_source_are_as_the_user_names_them(tmp_path):
    told = Told({"text": "body", "external_id": "key"}, source="mine", licence="MIT")
    rows = read(tmp_path, {"body": "a fish", "text": "no", "key": "k", "source": "zoo"}, told=told)

    assert rows.passages.select("passage", "external_id", "source").rows() == [("a fish", "k", "mine")]
    assert rows.files[0].licence == "MIT"


def test_a_text_counts_once_and_bad_and_erased_rows_are_counted(tmp_path, capsys):
    rows = [{"text": "fish"}, {"text": "fish"}, {"text": " "}, "no json", {"text": "hers", "external_id": "anna"}]
    found = read(tmp_path, *rows, {"text": "x"}, erased=frozenset([hashed("anna")]))

    assert sorted(found.passages["passage"]) == ["fish", "x"]
    (file,) = found.files
    assert (file.rows, file.duplicates, file.quarantined) == (6, 1, 3)
    said = capsys.readouterr().err
    assert "1 passage left out, by external ids that were erased" in said
    assert "2 of 6 passages left out: blank" in said


def test_csv_is_read_by_its_header(tmp_path):
    found = read(tmp_path, "external_id,text", "1,a fish", "2,a bird", name="notes.csv")

    assert sorted(found.passages.select("passage", "external_id").rows()) == [("a bird", "2"), ("a fish", "1")]


@pytest.mark.parametrize(
    ("rows", "told", "message"),
    [
        ([{"body": "a"}], AS_FOUND, "has the columns body, expected text"),
        ([{"text": "a"}], Told({"text": "body"}), "has the columns text, expected body"),
        ([{"text": "a"}], Told({"query": "q"}), "--columns names query, expected role=column"),
        ([{"text": "a"}, {"text": ""}, {"text": ""}], AS_FOUND, "2 of 3 passages are blank"),
        ([{"text": str(number)} for number in range(4)], AS_FOUND, "found more than 3 distinct passages"),
    ],
)
def test_what_holds_no_passages_or_too_many_is_refused(tmp_path, rows, told, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, *rows, told=told, most=3)
