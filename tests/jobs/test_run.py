"""`run` is refused at its start for what its last stage would be refused for, and then nothing is written."""

import json

import pytest

from pipelines.checkpoints.run_folder import RUN, RunFolder
from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.tiny import WORDS, tiny_bi_encoder, tiny_cross_encoder

GOOD = {"query": "what is a cat", "positive": "a small animal", "negative": "a big city"}
REFUSED = {
    "a dimension above the width": (["distill.dimensions=[64]"], "dimensions are [64], but the source is 32 wide"),
    "a student of another width": (["distill.source_model={wide}"], "vectors are 32 wide, the student's 48"),
    "no source": (["distill.source_model={tmp}/none"], "there is no such folder"),
    "no teacher": (["score.teacher={tmp}/none"], "there is no such folder"),
    "a re-ranker as bi-encoder": (["score.teacher={judge}"], "is no sentence-transformers model"),
    "a bi-encoder as re-ranker": (["score.teacher_kind=cross_encoder"], "expected a ...ForSequenceClassification"),
    "vectors of a re-ranker": (["score.teacher={judge}", "score.teacher_kind=cross_encoder"], "needs a bi-encoder"),
    "a longer input than positions": (["score.max_tokens=513"], "reads at most 512 tokens; set score.max_tokens"),
    "vectors of another teacher": (["distill.vectors_teacher=a@0123456789ab"], "the vectors are by teacher@"),
    "nothing to evaluate on": (["curate.test_share=0"], "nothing to evaluate on"),
    "no evaluation set": (['curate.evaluation_sets=["{tmp}/none"]'], "is no folder; expected a BEIR folder"),
    "more workers than CPUs": (["distill.num_workers=999", "distill.use_gpu=false"], "asks for 999 CPUs"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "teacher": tiny_bi_encoder(folder / "teacher"),
        "wide": tiny_bi_encoder(folder / "wide", hidden_size=48),
        "judge": tiny_cross_encoder(folder / "judge"),
    }


@pytest.fixture
def refuse(models, tmp_path, monkeypatch, capsys):
    """Start a run with settings; gives what it is refused with. It must leave no file under tmp_path/tables."""
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(GOOD | {"query": word}) + "\n" for word in WORDS[:12]))
    places = models | {"tmp": str(tmp_path)}
    settings = ["score.teacher={teacher}", "score.teacher_kind=bi_encoder", "score.max_tokens=64"]
    settings += ["distill.source_model={teacher}", "distill.num_layers=2", "distill.dimensions=[32,8]"]
    settings += ["distill.max_tokens=64", "distill.vectors=1.0"]

    def call(*changes: str, more: tuple[str, ...] = ()) -> str:
        sets = [f"--set={setting.format(**places)}" for setting in (*settings, *changes)]
        root = ["--tables", str(tmp_path / "tables"), "--name", "small", "--input", str(tmp_path / "rows.jsonl")]
        before = sorted(tmp_path.rglob("*"))
        assert run_jobs("run", *root, *sets, *more) == 2
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_later_stage_would_refuse_is_refused_before_the_first(refuse, changes, message):
    assert message in refuse(*changes)


def test_a_beir_folder_that_is_not_there_is_refused_before_anything_is_scored(refuse, tmp_path):
    assert "is no folder; expected a BEIR folder" in refuse(more=("--beir", str(tmp_path / "none")))


def test_a_name_that_has_a_model_is_refused_with_the_command_that_goes_on(refuse, tmp_path):
    RunFolder(Tables.at(str(tmp_path / "tables")), "small").write(RUN, {})

    told = refuse()

    assert "there is a model small under" in told
    assert "python -m jobs distill --name small --from curated_triplets@VERSION" in told


GENERATE = ("--generate", "--set=generate.model=m", "--set=generate.endpoint=http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--generate",), "no endpoint is named that writes queries; expected --set generate.endpoint="),
        ((*GENERATE, "--mine"), "--generate mines negatives, too; expected it or --mine"),
        ((*GENERATE, "--set=generate.api_key_variable=NO_SUCH_KEY"), "names NO_SUCH_KEY, which is not set"),
        ((*GENERATE, "--set=curate.test_share=0"), "nothing to evaluate on"),
        ((*GENERATE, "--price-per-million=1"), "expected two numbers, input and output"),
        ((*GENERATE, "--columns=query=query"), "--columns names query, expected role=column, a role being text"),
    ],
)
def test_what_a_run_from_passages_lacks_is_said_before_anything_is_asked(refuse, more, message):
    assert message in refuse(more=more)
