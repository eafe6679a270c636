"""Evaluating a tiny student from real tables: every system, the rows that are written, and what is refused."""

import gc
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

from pipelines import curate, evaluate
from pipelines.checkpoints.name import weights_sha256
from pipelines.curate import CurateConfig
from pipelines.evaluate import EvaluateConfig, Evaluation
from pipelines.evaluation.comparison import summarise
from pipelines.evaluation.systems import NotMeasured, System, find_student, systems
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import ScoringResult
from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student
from pipelines.teachers.bi_encoder import BiEncoderTeacher
from pipelines.teachers.config import TeacherConfig, load_teacher, name_teacher
from schemas import Evaluations, Models, ScoredTriplets, TeacherVectors, Triplets
from tests.rows import frame_of
from tests.scored_versions import scored_rows
from tests.tiny import WORDS, tiny_bi_encoder, tiny_cross_encoder, tiny_encoder

QUICK = EvaluateConfig(num_permutations=100, num_resamples=100)
METRICS = {"nDCG@10", "RR@10", "R@100"}


def made_up(number: int) -> tuple[str, str, float, str, float]:
    query = f"{WORDS[number]} {WORDS[number + 7]}"
    return query, f"{query} and {WORDS[number + 3]}", 0.9, f"{WORDS[number + 11]} {number}", -0.9


def make_root(folder: Path, kind: str = "cross_encoder") -> Tables:
    """Ingested, scored, curated and distilled (not trained: the weights are moved a little), with a tiny teacher."""
    tables = Tables.at(str(folder / "tables"))
    make_teacher = {"cross_encoder": tiny_cross_encoder, "bi_encoder": tiny_bi_encoder}[kind]
    teacher = TeacherConfig(teacher=make_teacher(folder / "judge"), teacher_kind=kind, max_tokens=64)
    rows = scored_rows([made_up(number) for number in range(60)], teacher=name_teacher(teacher))
    with new_version(tables, Triplets, Lineage("ingest", [], teacher)) as triplets:
        triplets.write(rows.select(Triplets.polars_schema().keys()))
    with new_version(tables, ScoredTriplets, Lineage("score", [triplets.version], teacher)) as scored:
        scored.write(rows)
        told = {"teacher": rows["teacher"][0], "teacher_kind": kind, "triplets": str(triplets.version), "share": 1.0}
        scored.result = ScoringResult(teacher=told["teacher"], complete=told)
    config = CurateConfig(test_share=0.4, dev_share=0.0, max_drop_share=1.0)
    distilled(tables, str(curate.run(scored.version, config).version), tiny_encoder(folder / "source"))
    return tables


def distilled(tables: Tables, curated: str, source: str) -> None:
    config = {
        "source_model": source,
        "num_layers": 2,
        "dimensions": (32, 8),
        "max_tokens": 64,
        "query_prompt": "query ",
    }
    model = initialise_student(DistillConfig(layers="first", **config))
    for number, parameter in enumerate(model.parameters()):
        parameter.data += 0.05 * np.sin(number)
    folder = Path(tables.path("models", "small", "model"))
    model.save(str(folder), create_model_card=False)
    sha256 = weights_sha256(folder)
    row = {"model_id": f"small@{sha256[:12]}", "name": "small", "weights_sha256": sha256, "uri": str(folder),
           "curated_version": curated, "recipe": json.dumps({"source_model": source})}  # fmt: skip
    with new_version(tables, Models, Lineage("distill", [tables.parse(curated)], QUICK)) as models:
        models.write(frame_of(Models, row))


def beir_folder(folder: Path) -> str:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": WORDS[n], "text": f"{WORDS[n + 1]} {WORDS[n + 2]}"} for n in range(40)]
    queries = [{"_id": f"q{n}", "text": f"{WORDS[n]} {WORDS[n + 2]}"} for n in range(5)]
    for name, rows in [("corpus", corpus), ("queries", queries)]:
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels" / "test.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(5)))
    return str(folder)


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return beir_folder(tmp_path_factory.mktemp("beir") / "pets")


def test_every_system_is_measured_on_the_test_split_and_on_beir_at_every_dimension(cross, pets):
    done = evaluate.run(cross, "small", QUICK, beir=[pets])

    rows = done.version.scan().collect()
    model_id = cross.latest("models").scan().collect()["model_id"][0]
    teacher = cross.latest("curated_triplets").commit.result.teacher
    test, beir = rows["data_set"].unique().sort(descending=True)
    assert (test, beir[:10]) == ("curated_triplets@0/test", "beir/pets@")
    dimensions = [(model_id, 8), (model_id, 32), ("bm25", 0), (teacher, 0)]
    dimensions += [(f"untrained:{model_id}", 8), (f"untrained:{model_id}", 32)]
    per_system = rows.group_by("data_set", "model_id", "dimension").agg(pl.len(), pl.col("metric").unique())
    assert sorted(per_system.select("model_id", "dimension").unique().rows()) == sorted(dimensions)
    queries = dict(rows.group_by("data_set").agg(pl.col("query_id").n_unique()).iter_rows())
    assert queries[beir] == 5
    assert queries[test] > 10
    assert all(count == 3 * queries[name] for name, count in per_system.select("data_set", "len").iter_rows())
    assert {frozenset(metrics) for metrics in per_system["metric"]} == {frozenset(METRICS)}
    assert done.summary.height == 2 * 6
    assert f"{test}: {queries[test]} queries" in done.text()


def test_values_are_those_of_the_models_own_cosines(cross, pets):
    """The student's R@100 and RR@10 of a BEIR query, by a full sort of plain sentence-transformers cosines."""
    done = evaluate.run(cross, "small", QUICK, beir=[pets])
    model = SentenceTransformer(cross.path("models", "small", "model"), device="cpu", truncate_dim=8)
    corpus = [json.loads(line) for line in Path(pets, "corpus.jsonl").read_text().splitlines()]
    query = json.loads(Path(pets, "queries.jsonl").read_text().splitlines()[2])

    passages = model.encode_document([f"{row['title']} {row['text']}" for row in corpus])
    cosines = model.similarity(model.encode_query([query["text"]]), passages)[0].numpy()
    rank = 1 + int((cosines > cosines[2]).sum())

    wanted = (
        (pl.col("query_id") == query["_id"]) & (pl.col("dimension") == 8) & pl.col("model_id").str.starts_with("small@")
    )
    found = dict(done.version.scan().filter(wanted).select("metric", "value").collect().iter_rows())
    assert found["RR@10"] == pytest.approx(1 / rank if rank <= 10 else 0)
    assert found["R@100"] == 1
    assert found["nDCG@10"] == pytest.approx(1 / np.log2(1 + rank) if rank <= 10 else 0)


def test_a_second_evaluation_replaces_the_rows_and_gives_the_same(cross, pets):
    first = evaluate.run(cross, "small", QUICK, beir=[pets])
    second = evaluate.run(cross, "small", QUICK, beir=[pets])

    assert second.version.version > first.version.version  # a version for each system
    assert second.version.scan().collect().equals(first.version.scan().collect())
    assert second.text() == first.text()


def test_a_querys_own_document_is_ranked_by_no_system_at_any_dimension(cross, tmp_path):
    """As in ArguAna: the argument stands in the corpus, and its counter-argument is asked for."""
    (tmp_path / "arguments" / "qrels").mkdir(parents=True)
    text = "red king"
    corpus = [{"_id": "pro", "title": "winter", "text": text}, {"_id": "con", "text": "old king"}]
    (tmp_path / "arguments" / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (tmp_path / "arguments" / "queries.jsonl").write_text(json.dumps({"_id": "pro", "text": text}))
    (tmp_path / "arguments" / "qrels" / "test.tsv").write_text("pro\tcon\t1\n")

    rows = evaluate.run(cross, "small", QUICK, beir=[str(tmp_path / "arguments")]).version.scan().collect()
    of_arguments = rows.filter(pl.col("data_set").str.starts_with("beir/arguments"))

    assert of_arguments.height == 3 * 6
    assert of_arguments["value"].to_list() == [1.0] * 18


def test_lineage_names_model_table_and_curation_and_keeps_the_overlap(cross):
    written = evaluate.run(cross, "small", QUICK).version.commit

    assert [one.version for one in written.inputs] == ["models@0", "curated_triplets@0"]
    assert written.result.not_measured == {}
    assert {row["kind"] for row in written.result.overlap} == {"query", "passage"}


def test_a_bi_encoder_teacher_is_searched_at_every_dimension(tmp_path):
    done = evaluate.run(make_root(tmp_path, "bi_encoder"), "small", QUICK)

    rows = done.summary.filter(pl.col("system") == "teacher")
    assert rows["dimension"].to_list() == [32, 8]
    assert done.summary.filter(pl.col("system") == "student")["p_teacher"].null_count() == 0


def test_a_bi_encoder_teacher_encodes_what_no_scoring_run_has_stored(tmp_path, pets):
    """On BEIR folders no text has a stored vector, on the test split one of them has."""
    tables = make_root(tmp_path, "bi_encoder")
    plain = evaluate.run(tables, "small", QUICK, beir=[pets]).summary
    row = tables.latest("triplets").scan().head(1).collect().to_dicts()[0]
    config = TeacherConfig(teacher=str(tmp_path / "judge"), teacher_kind="bi_encoder", max_tokens=64)
    vector = load_teacher(config).encode([row["query"]], "query")[0].tolist()
    with new_version(tables, TeacherVectors, Lineage("score", [], QUICK)) as vectors:
        told = {"teacher": name_teacher(config), "kind": "query", "text_id": row["query_id"]}
        vectors.write(frame_of(TeacherVectors, {"vector": vector, **told}))

    assert evaluate.run(tables, "small", QUICK, beir=[pets]).summary.equals(plain)


@pytest.mark.parametrize("failure", [UserError("the teacher is broken"), RuntimeError("killed")])
def test_a_teacher_that_fails_on_the_way_loses_nothing(tmp_path, monkeypatch, failure):
    tables = make_root(tmp_path, "bi_encoder")

    def fail(self, texts, kind):
        raise failure

    monkeypatch.setattr(BiEncoderTeacher, "encode", fail)

    if isinstance(failure, UserError):
        done = evaluate.run(tables, "small", QUICK)
        assert done.not_measured == {"teacher": "the teacher is broken"}
        assert done.summary["system"].unique().sort().to_list() == ["bm25", "student", "untrained"]
        assert done.version.commit.result.not_measured == done.not_measured
    else:
        with pytest.raises(RuntimeError, match="killed"):
            evaluate.run(tables, "small", QUICK)
    written = tables.latest("evaluations").scan().collect()["model_id"].unique()
    assert [name for name in written if name.startswith("small@")]
    assert [name for name in written if name.startswith("untrained:small@")]


def test_systems_can_be_left_out(cross):
    config = QUICK.model_copy(update={"compare_with": ("bm25",), "count_overlap": False})

    done = evaluate.run(cross, "small", config)

    assert done.summary["system"].unique().sort().to_list() == ["bm25", "student"]
    assert done.overlap.is_empty()


def test_a_teacher_that_is_gone_is_told_and_left_out(tmp_path, capsys):
    tables = make_root(tmp_path)
    shutil.rmtree(tmp_path / "judge")

    done = evaluate.run(tables, "small", QUICK)

    assert "teacher" not in done.summary["system"].to_list()
    assert "teacher: not measured:" in done.text()
    assert "teacher is not measured" in capsys.readouterr().err


def test_quantised_vectors_are_measured_as_systems_of_their_own(cross, pets):
    config = QUICK.model_copy(update={"compare_with": (), "quantised": ("int8", "binary")})

    done = evaluate.run(cross, "small", config, beir=[pets])

    of_pets = done.summary.filter(pl.col("data_set").str.starts_with("beir/"))
    model_id = of_pets["model_id"][0]
    assert of_pets.select("system", "model_id", "dimension").rows() == [
        ("student", model_id, 32), ("student", model_id, 8),
        ("int8", f"int8:{model_id}", 32), ("int8", f"int8:{model_id}", 8),
        ("binary", f"binary:{model_id}", 32), ("binary", f"binary:{model_id}", 8),
    ]  # fmt: skip
    ndcg = of_pets["nDCG@10"].to_list()
    assert ndcg[2] == pytest.approx(ndcg[0], abs=0.1)
    assert "binary" in done.text()


def test_one_model_beside_the_student_is_in_memory_at_a_time(cross):
    def num_models() -> int:
        gc.collect()
        return sum(type(one) is SentenceTransformer for one in gc.get_objects())

    alive = {}
    student = find_student(cross, "small")
    without_others = num_models()
    for system in systems(student, [], compare_with=("untrained", "teacher"), rerank_depth=10, batch_size=4):
        alive[system.role] = num_models() - without_others
        del system

    assert alive == {"student": 0, "untrained": 1, "teacher": 0}  # the teacher is a cross-encoder


def test_a_system_that_cannot_be_loaded_comes_as_not_measured_in_its_place(tmp_path):
    student = find_student(make_root(tmp_path), "small")
    shutil.rmtree(tmp_path / "source")
    compare_with = ("bm25", "teacher", "untrained")

    found = list(systems(student, [], compare_with=compare_with, rerank_depth=10, batch_size=4))

    assert [one.role for one in found] == ["student", "untrained", "teacher", "bm25"]
    assert [type(one) for one in found] == [System, NotMeasured, System, System]
    assert "source" in found[1].reason


def test_another_teacher_in_the_same_place_is_not_taken_for_it(tmp_path):
    tables = make_root(tmp_path)
    tiny_cross_encoder(tmp_path / "judge", seed=9)

    assert "was made with judge@" in evaluate.run(tables, "small", QUICK).not_measured["teacher"]


def test_what_cannot_be_evaluated_is_refused(cross, tmp_path):
    with pytest.raises(UserError, match=r"no model 'large' .*found: small"):
        evaluate.run(cross, "large", QUICK)
    with pytest.raises(UserError, match="is no folder"):
        evaluate.run(cross, "small", QUICK, beir=[str(tmp_path / "absent")])
    shutil.copytree(cross.uri, tmp_path / "tables")
    moved = Tables.at(str(tmp_path / "tables"))
    weights = Path(moved.path("models", "small", "model", "model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match="trained over or changed"):
        evaluate.run(moved, "small", QUICK)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("curated_triplets", "curated_triplets@0 lacks 2 of its 2 data files"),
        ("triplets", "triplets@0 lacks 1 of its 1 data files"),
        ("dropped_triplets", "dropped_triplets has no version of the curation that made curated_triplets@0"),
    ],
)
def test_a_test_split_that_cannot_be_told_any_more_is_refused_and_beir_is_left(
    cross, pets, tmp_path, capsys, lost, told
):
    tables = Tables.at(str(shutil.copytree(cross.uri, tmp_path / "tables")))
    if lost == "dropped_triplets":
        shutil.rmtree(tables.path(lost))
    for file in Path(tables.path(lost)).glob("*.parquet"):
        file.unlink()

    with pytest.raises(UserError, match=f"{told}.*: the test split of curated_triplets@0 cannot be asked"):
        evaluate.run(tables, "small", QUICK)
    alone = QUICK.model_copy(update={"compare_with": ()})
    assert evaluate.run(tables, "small", alone, beir=[str(pets)]).summary["data_set"].n_unique() == 1
    assert "evaluating on BEIR alone" in capsys.readouterr().err


def test_an_evaluation_says_on_a_line_what_the_student_is_worth_and_in_a_notebook_all_of_it(tmp_path):
    values = [
        {"model_id": system, "data_set": "a<b", "query_id": query, "dimension": dimension, "metric": metric, "value": v}
        for system, dimension, v in (("small@1", 32, 0.5), ("small@1", 8, 0.25), ("bm25", 0, 0.75))
        for query in ("q1", "q2")
        for metric in METRICS
    ]
    chances = QUICK.model_dump(include={"num_permutations", "num_resamples", "seed"})
    summary = summarise(frame_of(Evaluations, *values), {"small@1": "student", "bm25": "bm25"}, **chances)
    version = TableVersion(Tables.at(str(tmp_path)), "evaluations", 4)
    done = Evaluation(version, summary, pl.DataFrame(schema={"data_set": pl.String}), {"teacher": "<gone>"})

    assert repr(done) == "<evaluation evaluations@4: a<b nDCG@10 0.500 at 32>"
    html = done._repr_html_()
    assert html.startswith(
        "<div>&lt;evaluation evaluations@4: a&lt;b nDCG@10 0.500 at 32&gt;</div><pre>a&lt;b: 2 queries"
    )
    assert "&lt;gone&gt;" in html
    assert html.count("<") == 4
