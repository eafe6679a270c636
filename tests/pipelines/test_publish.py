"""Publishing a tiny student from real Delta tables: the folder, its manifest, its card, and what is refused."""

import hashlib
import html
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from pipelines import publish
from pipelines.checkpoints.name import weights_sha256
from pipelines.publication.manifest import lock_file
from pipelines.publication.model_card import _plain
from pipelines.report.gather import gather
from pipelines.report.pictures import dimensions, outcome_shares
from pipelines.report.subject import Subject
from pipelines.report.svg import standalone
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import NO_RESULT, CurationResult
from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student
from schemas import (
    CuratedTriplets,
    DroppedTriplets,
    Evaluations,
    IngestedFiles,
    Models,
    ScoredTriplets,
    Table,
    Triplets,
)
from tests.rows import frame_of
from tests.tiny import tiny_encoder
from tests.training_data import curated_row

LICENCES = {"faq": "CC-BY-4.0", "wiki": None}


class CurateSettings(Config):
    strictness: int


def write(
    tables: Tables, schema: type[Table], rows: list[dict], stage: str, inputs=(), config=None, result=NO_RESULT
) -> TableVersion:
    """One whole new version, of what the rows have of the table's columns."""
    columns = schema.polars_schema()
    frame = frame_of(schema, *({name: row[name] for name in columns if name in row} for row in rows))
    with new_version(tables, schema, Lineage(stage, inputs, config or Config(), result), mode="overwrite") as writer:
        writer.write(frame)
    return writer.version


def triplet(source: str, number: int, **columns: object) -> dict[str, object]:
    row = curated_row(f"query {number} of {source}", f"answer {number}", f"nonsense {number}")
    return row | {"source": source, "source_file": f"data/{source}.jsonl"} | columns


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """A root with one model, `small`, and every table behind it; two curations, of which the first made the model."""
    root = tmp_path_factory.mktemp("root")
    tables = Tables.at(str(root / "tables"))
    rows = [triplet("faq", number) for number in range(5)] + [triplet("wiki", number) for number in range(4)]
    files = [
        {"path": f"data/{source}.jsonl", "sha256": hashlib.sha256(source.encode()).hexdigest(), "rows": 5,
         "triplets": 5, "source": source, "licence": licence}
        for source, licence in LICENCES.items()
    ]  # fmt: skip
    triplets = write(tables, Triplets, rows, "ingest")
    write(tables, IngestedFiles, files, "ingest")
    scored = write(tables, ScoredTriplets, rows, "score", [triplets])
    curations = []
    for strictness in (1, 2):
        config, curation = CurateSettings(strictness=strictness), CurationResult(curation=f"{strictness:012}")
        dropped = [row | {"drop_reason": "margin_too_small"} for row in rows[:strictness]]
        dropped += [row | {"drop_reason": "teacher_prefers_negative"} for row in rows[-2:]]
        write(tables, DroppedTriplets, dropped, "curate", [scored], config, curation)
        kept = [
            *rows[strictness:5],
            *(row | {"correction": "swapped", "original_triplet_id": "f" * 32} for row in rows[5:-2]),
        ]
        kept[0] = kept[0] | {"split": "test"}
        curations.append(write(tables, CuratedTriplets, kept, "curate", [scored], config, curation))
    train(tables, curations[0], str(root))
    return tables


def train(tables: Tables, curated: TableVersion, root: str) -> None:
    folder = Path(tables.path("models", "small", "model"))
    source = {"source_model": tiny_encoder(f"{root}/source"), "layers": "first", "num_layers": 2}
    student = initialise_student(DistillConfig(dimensions=(32, 8), max_tokens=64, query_prompt="query: ", **source))
    student.save(str(folder))
    folder.with_name("run.json").write_text(json.dumps({"curated": str(curated)}))
    sha256 = weights_sha256(folder)
    row = {"model_id": f"small@{sha256[:12]}", "name": "small", "weights_sha256": sha256, "uri": str(folder),
           "curated_version": str(curated), "recipe": '{"epochs": 3}',
           "code": '{"commit": "abc"}', "engine": '{"threads": 2}', "seconds": 1.5, "steps": 7,
           "parents": ["source@0123456789ab"]}  # fmt: skip
    write(tables, Models, [row], "distill", [curated])
    systems = {row["model_id"]: (32, 0.75), "bm25": (0, 0.5), f"untrained:{row['model_id']}": (32, 0.25),
               "other@000000000000": (32, 0.9)}  # fmt: skip
    measured = [
        {"model_id": system, "data_set": data_set, "query_id": query, "dimension": dimension, "metric": "nDCG@10",
         "value": value + gap}
        for system, (dimension, value) in systems.items()
        for data_set in (["beir/mini@1", "elsewhere"] if system == "bm25" else ["beir/mini@1"])
        for query, gap in [("a", -0.1), ("b", 0.1)]
    ]  # fmt: skip
    write(tables, Evaluations, measured, "evaluate")


@pytest.fixture(scope="module")
def published(trained: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(publish.run(trained, "small", str(tmp_path_factory.mktemp("out") / "new" / "small")))


def manifest_in(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_published_folder_gives_the_trained_models_embeddings_and_ranks_by_cosine_when_cut(trained, published):
    texts = ["the king", "of winter"]
    original = SentenceTransformer(trained.path("models", "small", "model"), device="cpu")

    whole = SentenceTransformer(str(published), device="cpu")
    cut = SentenceTransformer(str(published), device="cpu", truncate_dim=8)

    assert (whole.encode_query(texts) == original.encode_query(texts)).all()
    np.testing.assert_allclose(np.linalg.norm(whole.encode(texts), axis=1), 1, rtol=1e-6)
    unit = cut.encode(texts) / np.linalg.norm(cut.encode(texts), axis=1, keepdims=True)
    np.testing.assert_allclose(cut.similarity(cut.encode(texts), cut.encode(texts)), unit @ unit.T, atol=1e-6)
    assert sorted(path.name for path in published.parent.iterdir()) == ["small"]  # nothing is left of the building


def test_manifest_leads_from_the_weights_through_every_version_to_the_input_files(trained, published):
    manifest = manifest_in(published)

    assert (
        manifest["model"]["weights_sha256"]
        == hashlib.sha256((published / "model.safetensors").read_bytes()).hexdigest()
    )
    assert manifest["config"] == {"epochs": 3}
    assert manifest["engine"] == {"threads": 2}
    assert manifest["run"] == {"curated": "curated_triplets@0"}
    chain = {version["version"]: [item["version"] for item in version["inputs"]] for version in manifest["versions"]}
    assert chain == {
        "curated_triplets@0": ["scored_triplets@0"],
        "scored_triplets@0": ["triplets@0"],
        "triplets@0": [],
    }
    for version in manifest["versions"]:
        identity = trained.parse(version["version"]).identity()
        assert {key: version[key] for key in identity} == identity
        assert version["code"]["sources_digest"]
        assert version["engine"]["libraries"]["polars"] == pl.__version__
    assert manifest["versions"][0]["config"] == {"strictness": 1}
    assert [(file["path"], file["sha256"], file["rows"], file["licence"]) for file in manifest["ingested_files"]] == [
        (f"data/{source}.jsonl", hashlib.sha256(source.encode()).hexdigest(), 5, licence)
        for source, licence in LICENCES.items()
    ]
    assert "user" not in str(manifest["versions"][0].keys())


def test_curation_counts_are_those_of_the_curation_that_made_the_model(published):
    manifest = manifest_in(published)

    assert [tuple(row.values()) for row in manifest["curation"]] == [
        ("faq", "dropped", "margin_too_small", 1),
        ("faq", "kept", None, 4),
        ("wiki", "corrected", "swapped", 2),
        ("wiki", "dropped", "teacher_prefers_negative", 2),
    ]
    assert manifest["splits"] == {"test": 1, "train": 5}


def test_card_has_front_matter_that_the_hub_reads_and_the_measured_means(published):
    card = ModelCard.load(published / "README.md")

    assert card.data.library_name == "sentence-transformers"
    assert card.data.model_name == "small"
    result = card.data.eval_results[0]
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("beir/mini@1", "ndcg_at_10", 0.75)
    assert "| beir/mini@1 | this model | 32 | 2 | 0.750 |" in card.text
    assert "| beir/mini@1 | bm25 |  | 2 | 0.500 |" in card.text
    assert "| beir/mini@1 | untrained:small@" in card.text
    assert card.text.index("| this model |") < card.text.index("| bm25 |")
    assert "| elsewhere" not in card.text  # a data set on which this model was not measured
    assert "| faq | 4 | 0 | 1 | CC-BY-4.0 |" in card.text
    assert "| wiki | 0 | 2 | 2 | not stated |" in card.text
    assert "| dropped | teacher_prefers_negative | 2 |" in card.text
    assert 'query: `"query: "`' in card.text
    assert "truncate_dim=8" in card.text
    assert "layers 0, 1 of `source@" in card.text


def test_card_and_report_have_the_same_figures_and_pictures(trained, published):
    subject = Subject.find(trained, trained.parse("curated_triplets@0"))
    report = gather(subject)
    best, card = report.measured[0].best, (published / "README.md").read_text()

    assert f"| this model | 32 | 2 | {best['nDCG@10']:.3f} | {best['low']:.3f} to {best['high']:.3f} |" in card
    for file, picture in (
        ("quality.svg", dimensions(report.measured[0])),
        ("curation.svg", outcome_shares(report.outcomes.sources)),
    ):
        assert (published / file).read_text() == standalone(picture)
        assert f"]({file})\n\n{html.escape(picture.sentence, quote=False)}" in card.replace("\\", "")
        assert file in manifest_in(published)["files"]


def test_no_name_in_a_sentence_of_the_card_becomes_markup():
    assert _plain("of <b>*x*</b> [a](b) `c` | d") == "of &lt;b&gt;\\*x\\*&lt;/b&gt; \\[a\\](b) \\`c\\` \\| d"


def test_publishing_again_replaces_an_earlier_publication_and_gives_the_same_bytes(trained, published, tmp_path):
    first = {path.name: path.read_bytes() for path in published.iterdir() if path.is_file()}
    target = tmp_path / "small"
    publish.run(trained, "small", str(target))
    (target / "stale.txt").write_text("from an older release")

    model_id = manifest_in(published)["model"]["model_id"]
    publish.run(trained, model_id, str(target))

    assert {path.name: path.read_bytes() for path in target.iterdir() if path.is_file()} == first


def test_a_model_that_was_never_evaluated_is_published_without_figures(trained, tmp_path):
    shutil.copytree(trained.uri, tmp_path / "tables")
    shutil.rmtree(tmp_path / "tables" / "evaluations")

    folder = Path(publish.run(Tables.at(str(tmp_path / "tables")), "small", str(tmp_path / "small")))

    assert "nDCG" not in (folder / "README.md").read_text()
    assert (SentenceTransformer(str(folder), device="cpu").encode("the king") != 0).any()


def test_a_folder_of_other_things_is_not_overwritten(trained, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(UserError, match=r"thesis\.txt.* is not an earlier publication"):
        publish.run(trained, "small", str(tmp_path))
    with pytest.raises(UserError, match="is a file; expected a folder"):
        publish.run(trained, "small", str(tmp_path / "thesis.txt"))

    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("model", ["large", "small@000000000000", "../small"])
def test_an_unknown_model_is_refused_with_the_names_there_are(trained, tmp_path, model):
    with pytest.raises(UserError, match="found: small"):
        publish.run(trained, model, str(tmp_path / "out"))


def test_upload_replaces_an_earlier_publication_with_every_file_and_nothing_else(published, tmp_path):
    """The way to S3 on a local file system: the same calls, without the rename."""
    expected = {path.relative_to(published): path.read_bytes() for path in published.rglob("*") if path.is_file()}
    target = tmp_path / "bucket" / "small"
    for round_trip in range(2):
        shutil.copytree(published, tmp_path / f"built{round_trip}" / "model")
        publish._upload(tmp_path / f"built{round_trip}" / "model", Tables.at(str(target)))
        found = {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        assert found == expected
        (target / "stale.txt").write_text("from an older release")

    (target / "manifest.json").unlink()
    shutil.copytree(published, tmp_path / "built2" / "model")
    with pytest.raises(UserError, match="is not an earlier publication"):
        publish._upload(tmp_path / "built2" / "model", Tables.at(str(target)))


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(trained, tmp_path):
    (tmp_path / "current").symlink_to("v1")

    for _ in range(2):
        assert publish.run(trained, "small", str(tmp_path / "current")) == str(tmp_path / "v1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1"]
    assert (tmp_path / "current").is_symlink()


@pytest.mark.parametrize("to", ["", "x" * 300, "~nosuch/x", "\udcff", "s3://bucket/a\nb"])
def test_what_can_be_no_folder_is_refused_by_name(trained, to):
    with pytest.raises(UserError, match=r"is empty|too long|no such user|not UTF-8|Delta library"):
        publish.run(trained, "small", to)


def test_an_unknown_scheme_is_refused(trained):
    with pytest.raises(UserError, match="expected a folder or s3://"):
        publish.run(trained, "small", "gs://bucket/small")


def test_weights_that_no_row_describes_are_not_published_and_leave_nothing_behind(trained, tmp_path):
    weights = Path(trained.path("models", "small", "model", "model.safetensors"))
    original = weights.read_bytes()
    weights.write_bytes(original[:-4] + b"\0\0\0\0")
    try:
        with pytest.raises(UserError, match="trained over or changed"):
            publish.run(trained, "small", str(tmp_path / "out"))
    finally:
        weights.write_bytes(original)

    assert list(tmp_path.iterdir()) == []


def test_a_table_made_anew_under_the_same_name_and_version_is_not_taken_for_the_old_one(trained, tmp_path):
    root = tmp_path / "tables"
    for path in Path(trained.uri).rglob("*"):
        if path.is_file():
            copy = root / path.relative_to(trained.uri)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for path in sorted((root / "triplets").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    copied = Tables.at(str(root))
    write(copied, Triplets, [triplet("faq", 0)], "ingest")

    with pytest.raises(UserError, match=r"triplets@0 is .* scored_triplets@0 was made from .* made anew"):
        publish.run(copied, "small", str(tmp_path / "out"))


def without_files(trained, tmp_path, *names):
    """A copy of the root that has lost the data files of some tables."""
    tables = Tables.at(str(shutil.copytree(trained.uri, tmp_path / "tables")))
    for name in names:
        for file in Path(tables.path(name)).glob("*.parquet"):
            file.unlink()
    return tables


def test_a_model_whose_data_is_gone_is_not_published(trained, tmp_path):
    tables = without_files(trained, tmp_path, "curated_triplets")

    with pytest.raises(
        UserError, match=r"small@\w+ was trained on curated_triplets@0, which lacks 1 of its 1 .*distill"
    ):
        publish.run(tables, "small", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_is_gone_behind_the_data_is_said_and_stands_in_the_manifest(trained, tmp_path, capsys):
    tables = without_files(trained, tmp_path, "scored_triplets", "triplets", "dropped_triplets")

    manifest = manifest_in(Path(publish.run(tables, "small", str(tmp_path / "out"))))

    gone = {one["version"] for one in manifest["versions"] if "lacks 1 of its 1" in one.get("unreadable", "")}
    assert gone == {"scored_triplets@0", "triplets@0"}
    assert "cannot be read any more, as its manifest says: scored_triplets@0, triplets@0" in capsys.readouterr().err
    assert [source["source"] for source in manifest["sources"]] == ["faq", "wiki"]


def test_manifest_carries_the_lock_file_as_it_is(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_bytes(b"polars==2.1.0\n")

    assert lock_file(path) == {
        "path": "requirements.lock",
        "sha256": hashlib.sha256(b"polars==2.1.0\n").hexdigest(),
        "text": "polars==2.1.0\n",
    }
    assert lock_file(tmp_path / "none") is None
