"""The BEIR reader: what it reads, and the one message for each thing that can be wrong."""

import gzip

import pytest

from pipelines.intake.beir import is_beir_folder, read_beir
from pipelines.stage.errors import UserError

CORPUS = (
    '{"_id": "d1", "title": "Cats", "text": "They sleep."}\n'
    '{"_id": "d2", "title": "", "text": "Dogs bark."}\n'
    "\n"
    '{"_id": "d3", "text": "Ponies eat.", "metadata": {"url": "x"}}\n'
)
QUERIES = '{"_id": "q1", "text": "who sleeps"}\n{"_id": "q2", "text": "who barks"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n"


def beir(folder, **files):
    """A BEIR folder; `files` replace or, with None, remove: corpus, queries, or the qrels' name."""
    wanted = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
    wanted |= {
        f"{name}.jsonl" if name in ("corpus", "queries") else f"qrels/{name}.tsv": t for name, t in files.items()
    }
    (folder / "qrels").mkdir(parents=True)
    for name, content in wanted.items():
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_a_folder_becomes_texts_and_grades(tmp_path):
    read = read_beir(beir(tmp_path / "pets"))

    assert read.corpus == {"d1": "Cats They sleep.", "d2": "Dogs bark.", "d3": "Ponies eat."}
    assert read.queries == {"q1": "who sleeps", "q2": "who barks"}
    assert read.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert list(read.positives()) == [("q1", "d1"), ("q2", "d2")]
    assert read.complaint() == ""
    assert read.data_set == f"beir/pets@{read.digest}"
    assert read.digest == "0d0abe0eb76c"  # figures in `evaluations` are keyed by it: it never changes


def test_gzip_and_plain_are_the_same_set(tmp_path):
    plain, packed = beir(tmp_path / "a" / "pets"), beir(tmp_path / "b" / "pets")
    for file in [packed / "corpus.jsonl", packed / "queries.jsonl", packed / "qrels/test.tsv"]:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()

    assert is_beir_folder(packed)
    assert read_beir(packed).data_set == read_beir(plain).data_set
    assert read_beir(packed).corpus == read_beir(plain).corpus


def test_another_text_is_another_set(tmp_path):
    changed = CORPUS.replace("sleep", "doze")

    assert read_beir(beir(tmp_path / "a")).digest != read_beir(beir(tmp_path / "b", corpus=changed)).digest


def test_a_missing_header_loses_no_judgement(tmp_path):
    assert read_beir(beir(tmp_path, test=QRELS.partition("\n")[2])).qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}


def test_judgements_of_unknown_ids_are_left_out_and_counted(tmp_path):
    read = read_beir(beir(tmp_path / "pets", test=QRELS + "q9\td1\t1\nq9\td8\t1\nq1\td7\t1\n"))

    assert read.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert (read.num_unknown_queries, read.num_unknown_documents) == (2, 1)
    assert "2 rows" in read.complaint()
    assert "1 rows" in read.complaint()


def test_queries_without_a_relevant_document_are_not_judged(tmp_path):
    assert list(read_beir(beir(tmp_path, test="q1\td1\t0\nq2\td2\t1\n")).qrels) == ["q2"]


@pytest.mark.parametrize(
    ("files", "asked", "read"),
    [({"train": "q2\td1\t1\n"}, None, "test.tsv"), ({"train": "q2\td1\t1\n"}, "train", "train.tsv"),
     ({"test": None, "dev": "q2\td1\t1\n"}, None, "dev.tsv")],
)  # fmt: skip
def test_test_judgements_are_preferred_and_others_can_be_chosen(tmp_path, files, asked, read):
    assert read_beir(beir(tmp_path, **files), qrels=asked).qrels_file == read


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus": None}, r"corpus\.jsonl .*is not there; .* holds: qrels, queries\.jsonl"),
        ({"test": None}, r"qrels/test\.tsv .*is not there"),
        ({"test": None, "train": QRELS, "dev": QRELS}, r"no test\.tsv but dev, train"),
        ({"corpus": ""}, r"corpus\.jsonl: no line in it"),
        ({"corpus": CORPUS + "{_id: 1}"}, r"corpus\.jsonl:5: no JSON"),
        ({"corpus": "[1]"}, r"corpus\.jsonl:1: found a JSON list"),
        ({"corpus": '{"_id": "1", "contents": "x"}'}, r'corpus\.jsonl:1: "text" should be a string; found only _id'),
        ({"corpus": '{"_id": "1", "text": null}'}, r'"text" should be a string; found NoneType'),
        ({"corpus": '{"_id": "1", "title": 3, "text": "x"}'}, r'"title" should be a string; found int 3'),
        ({"corpus": CORPUS + CORPUS}, r"corpus\.jsonl:5: \"_id\" 'd1' occurs a second time"),
        ({"corpus": '{"_id": "1", "text": "\\ud800"}'}, r"half a surrogate pair"),
        ({"queries": b'{"_id": "q1", "text": "\xff"}'}, r"queries\.jsonl:1: not UTF-8 at byte 23"),
        ({"test": "q1 d1 1\n"}, r"test\.tsv:1: 1 columns .*expected three columns separated by tabs"),
        ({"test": QRELS + "q1\td1\thigh\n"}, r"test\.tsv:5: the score is 'high'; expected a whole number"),
        ({"test": "q8\td8\t1\n"}, r"none of its 1 rows gives a score above 0"),
        ({"test": "query-id\tcorpus-id\tscore\n"}, r"none of its 0 rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        read_beir(beir(tmp_path / "pets", **files))


def test_a_missing_folder_and_a_truncated_gzip_are_told(tmp_path):
    folder = beir(tmp_path / "pets", corpus=None)
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(CORPUS.encode())[:-9])

    with pytest.raises(UserError, match="not a whole gzip file"):
        read_beir(folder)
    with pytest.raises(UserError, match="BEIR folder is empty"):
        read_beir("")
    with pytest.raises(UserError, match="is no folder"):
        read_beir(tmp_path / "absent")
    assert not is_beir_folder(tmp_path / "absent")
