"""The BEIR reader: what it reads, and the one message for each thing that can be wrong."""

import gzip

import polars as pl
import pytest

from pipelines.intake.beir import is_beir_folder, read_all_judgements, read_beir
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
        ({"test": QRELS + "q1\td1\t1\n"}, r"test\.tsv:5 gives .*'d1' the score 1 .*'q1', .*test\.tsv:2 gave 2"),
        ({"test": QRELS + "q1\td1\t0.5\n"}, r"test\.tsv:5: the score is '0.5'"),
        ({"test": "qid\tpassage_no\tgain\n"}, r"test\.tsv:1: the score is 'gain'.*if this line is a header"),
        ({"test": "q1 Q0 d1 1 14.2 bm25\n"}, r"test\.tsv:1: 1 columns"),
        ({"test": "q1\tQ0\td1\t1\t14.2\tbm25\n"}, r"test\.tsv:1: 6 columns .*TREC's four"),
        ({"test": None}, r"test\.tsv is not there, nor test with another of the endings"),
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


GRADES = {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.tsv", "score\tcorpus-id\tquery-id\n2\td1\tq1\n0\td2\tq1\n1\td2\tq2\n"),
        ("test.tsv", "query-id\titeration\tcorpus-id\tscore\nq1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td2\t1\n"),
        ("test.tsv", "\ufeffQuery_ID\tCorpus_ID\tRelevance\r\nq1\td1\t2.0\r\n\r\nq1\td2\t-1\r\nq2\td2\t1\r\n"),
        ("test.tsv", "a\tqid\tb\tdocid\tgrade\n-\tq1\t-\td1\t2\n-\tq1\t-\td2\t0\n-\tq2\t-\td2\t1\n"),
        ("test.tsv", QRELS + "q1\td1\t2\n"),  # judged twice, and alike
        ("test.txt", "q1 0 d1 2\nq1 0 d2 -2\nq2 Q0 d2 1\n"),
        ("test.trec", "q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td2\t1\n"),
        ("dev.qrels", "q1  0  d1  2\nq1 0 d2 0\nq2 0 d2 1\n"),
        ("test.csv", 'query-id,corpus-id,score\n"q1",d1,2\nq1,d2,0\nq2,"d2",1\n'),
        ("test.jsonl", '{"query-id": "q1", "corpus-id": "d1", "score": 2}\n{"query-id": "q1", "corpus-id": "d2", '
                       '"score": 0}\n{"score": 1.0, "query_id": "q2", "doc_id": "d2", "note": null}\n'),
    ],
)  # fmt: skip
def test_judgements_are_read_in_every_form(tmp_path, name, content):
    folder = beir(tmp_path, test=None)
    (folder / "qrels" / name).write_bytes(content.encode())
    packed = beir(tmp_path / "packed", test=None)
    (packed / "qrels" / f"{name}.gz").write_bytes(gzip.compress(content.encode()))

    assert read_beir(folder).qrels == GRADES
    assert read_beir(packed).qrels == GRADES


def test_a_folder_of_parquet_is_read_as_hugging_face_lays_it_out(tmp_path):
    corpus = pl.DataFrame({"_id": ["d1", "d2"], "title": ["Cats", ""], "text": ["They sleep.", "Dogs bark."]})
    grades = {"query-id": ["q1", "q1", "q2"], "corpus-id": ["d1", "d2", "d2"], "score": [2.0, 0.0, 1.0]}
    for part in ("corpus", "queries", "qrels"):
        (tmp_path / part).mkdir()
    for shard in range(2):
        corpus[shard : shard + 1].write_parquet(tmp_path / "corpus" / f"corpus-0000{shard}-of-00002.parquet")
    pl.DataFrame({"id": ["q1", "q2"], "text": ["who sleeps", "who barks"]}).write_parquet(tmp_path / "queries.parquet")
    pl.DataFrame(grades).write_parquet(tmp_path / "qrels" / "test-00000-of-00001.parquet")

    assert is_beir_folder(tmp_path)
    assert read_beir(tmp_path, "test").qrels == GRADES
    assert read_beir(tmp_path).corpus == {"d1": "Cats They sleep.", "d2": "Dogs bark."}


def test_of_two_forms_of_the_same_judgements_one_is_read_and_said(tmp_path, capsys):
    folder = beir(tmp_path)
    (folder / "qrels" / "test.jsonl").write_text("not read")

    assert read_beir(folder).qrels_file == "test.tsv"
    assert "test.tsv is read, test.jsonl are not" in capsys.readouterr().err


def test_ids_may_be_numbers_in_one_file_and_text_in_another(tmp_path):
    folder = beir(tmp_path, corpus='{"id": 1, "text": "x"}\n', queries='{"query_id": "2", "text": "y"}\n', test=None)
    (folder / "qrels" / "test.jsonl").write_text('{"query_id": 2, "corpus_id": 1, "score": true}\n')
    with pytest.raises(UserError, match="the score is 'True'"):
        read_beir(folder)
    (folder / "qrels" / "test.jsonl").write_text('{"query_id": 2, "corpus_id": 1, "score": "1"}\n')

    assert read_beir(folder).qrels == {"2": {"1": 1}}


def test_documents_without_text_stay_and_queries_without_text_are_counted(tmp_path):
    queries = QUERIES + '{"_id": "q3", "text": "\u200b"}\n'
    read = read_beir(beir(tmp_path, corpus=CORPUS + '{"_id": "d4", "text": ""}\n', queries=queries,
                          test=QRELS + "q3\td1\t1\n"))  # fmt: skip

    assert read.corpus["d4"] == ""
    assert read.qrels == GRADES
    assert "name queries without a text in 1 rows" in read.complaint()


def test_the_texts_are_read_once_for_all_judgements(tmp_path):
    test, train = read_all_judgements(beir(tmp_path, train="q2\td1\t1\n"))

    assert (train.qrels_file, test.qrels_file) == ("train.tsv", "test.tsv")
    assert train.corpus is test.corpus
    assert test.data_set == read_beir(tmp_path).data_set


def test_a_query_has_its_own_document_by_id_or_text_unless_it_is_relevant(tmp_path):
    corpus = [
        ("arg-1", "Cats", "Cats are good."),
        ("arg-2", "", "Dogs are   good!"),
        ("b", "DOGS", "are good"),
        ("3", "", "other"),
        ("q4", "", "Ponies"),
        ("c", "Birds", "fly"),
    ]
    queries = {"arg-1": "cats are GOOD", "x": "dogs are good", "3": "a number is no name", "q4": "ponies", "y": "birds"}
    folder = beir(
        tmp_path,
        corpus="".join(f'{{"_id": "{key}", "title": "{title}", "text": "{text}"}}\n' for key, title, text in corpus),
        queries="".join(f'{{"_id": "{key}", "text": "{text}"}}\n' for key, text in queries.items()),
        test="".join(f"{key}\tc\t1\n" for key in queries) + "q4\tq4\t1\narg-1\targ-1\t0\n",
    )

    assert read_beir(folder).own_documents() == {"arg-1": {"arg-1"}, "x": {"arg-2", "b"}}
