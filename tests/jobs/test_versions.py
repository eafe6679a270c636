"""Which version and whose scores a command takes where none is named, after other programs were at the tables."""

import shutil
from pathlib import Path

import pytest

from jobs.recipe import load_recipe
from jobs.versions import curation_to_train_on, scores_to_read, version_to_read
from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.scoring.config import ScoreConfig
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.commits import Completion, ScoringResult
from pipelines.teachers.config import name_teacher
from schemas import ScoredTriplets, Triplets
from tests.scored_versions import scored_rows, write_scored, write_triplets
from tests.tiny import tiny_cross_encoder

ROWS = [(f"query {number}", "a", 5.0, "b", -5.0) for number in range(4)]
ALL = CurateConfig(test_share=0, dev_share=0)


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Two models of one name in two folders, that differ in their weights."""
    root = tmp_path_factory.mktemp("judges")
    return [tiny_cross_encoder(root / place / "judge", seed=seed) for seed, place in enumerate(("here", "there"))]


def scored_by(tables, config, *, complete=True, rows=ROWS):
    """The rows scored by the config's teacher; gives its name."""
    triplets = tables.latest("triplets") or write_triplets(tables, scored_rows(rows))
    teacher = name_teacher(config)
    lineage = Lineage("score", [triplets], config)
    with new_version(tables, ScoredTriplets, lineage) as scored:
        scored.write(scored_rows(rows, teacher=teacher))
        scored.result = ScoringResult(teacher=teacher)
    if complete:
        with new_version(tables, ScoredTriplets, lineage) as completed:
            told = {"teacher": teacher, "teacher_kind": config.teacher_kind, "triplets": str(triplets)}
            completed.result = ScoringResult(teacher=teacher, complete=Completion(**told, rows=len(rows)))
    return teacher


def config_of(folder, **changes):
    told = {"teacher_kind": "cross_encoder", "max_tokens": 64, "precision": "float32"} | changes
    return ScoreConfig(teacher=str(folder), **told)


def recipe_of(config):
    told = [f"score.{name}={value}" for name, value in config.model_dump(exclude_defaults=True).items()]
    return load_recipe("quickstart", ["score.teacher_sha256=none", "score.teacher_kind=cross_encoder", *told])


def vacuum(tables, *names):
    for name in names:
        tables.delta(name).optimize.z_order([next(iter(tables.latest(name).scan().collect_schema()))])
        tables.delta(name).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def test_of_several_teachers_the_recipes_comes_first_whoever_scored_last(tables, judges):
    first, last = (scored_by(tables, config_of(judge)) for judge in judges)

    for judge, teacher in zip(judges, (first, last), strict=True):
        scored, chosen = scores_to_read(tables, None, None, recipe_of(config_of(judge)))
        assert chosen == teacher
        assert curate.run(scored, ALL, teacher=chosen).version.scan().collect()["teacher"].unique().to_list() == [
            teacher
        ]
    assert scores_to_read(tables, None, last, recipe_of(config_of(judges[0])))[1] == last
    assert scores_to_read(tables, "scored_triplets@3", None, recipe_of(config_of(judges[0])))[1] == first


def test_where_the_recipe_leaves_the_precision_open_the_one_scored_with_last_is_taken(tables, judges):
    for precision in ("float32", "bf16"):
        last = scored_by(tables, config_of(judges[0], precision=precision))

    assert scores_to_read(tables, None, None, recipe_of(config_of(judges[0], precision="auto")))[1] == last


def test_a_recipe_whose_teacher_has_not_scored_leaves_the_choice_to_the_user(tables, judges, tmp_path):
    names = [scored_by(tables, config_of(judge)) for judge in judges]
    other = tiny_cross_encoder(tmp_path / "judge", seed=7)  # of the same name, with weights of its own

    for config in (config_of(other), config_of("someone/else"), config_of("/gone/judge")):
        scored, chosen = scores_to_read(tables, None, None, recipe_of(config))
        assert chosen is None
        with pytest.raises(
            UserError, match=f"2 teachers; choose one with --teacher {' or --teacher '.join(sorted(names))}"
        ):
            curate.run(scored, ALL, teacher=chosen)
    assert tables.latest("curated_triplets") is None


def test_a_teacher_that_is_not_here_any_more_is_told_by_the_config_it_scored_with(tables, judges, tmp_path):
    moved = shutil.copytree(judges[0], tmp_path / "moved" / "judge")
    wanted = scored_by(tables, config_of(moved))
    scored_by(tables, config_of(judges[1]))
    shutil.rmtree(moved)

    assert scores_to_read(tables, None, None, recipe_of(config_of(moved, batch_tokens=7)))[1] == wanted
    assert scores_to_read(tables, None, None, recipe_of(config_of(moved, query_prompt="q: ")))[1] is None


def test_the_recipes_teacher_that_only_began_is_not_passed_over_for_another(tables, judges):
    scored_by(tables, config_of(judges[0]))
    rows = ROWS[:1]
    begun = scored_by(tables, config_of(judges[1]), complete=False, rows=rows)

    scored, chosen = scores_to_read(tables, None, None, recipe_of(config_of(judges[1])))

    assert (str(scored), chosen) == ("scored_triplets@2", begun)
    with pytest.raises(UserError, match=f"3 of 4 rows of triplets@0 are not scored by {begun}"):
        curate.run(scored, ALL, teacher=chosen)


def test_of_a_single_teacher_that_is_not_the_recipes_a_warning_says_what_differs_and_what_to_do(tables, judges, capsys):
    name = scored_by(tables, config_of(judges[0]))
    warning = "warning: scored_triplets@1 was not scored as the recipe says, and is taken all the same: "

    assert scores_to_read(tables, None, None, recipe_of(config_of("someone/else", max_tokens=32)))[1] is None
    err = capsys.readouterr().err
    differs = f"score.teacher was {judges[0]}, the recipe has someone/else; score.max_tokens was 64, the recipe has 32"
    assert warning + differs + ". Expected the --recipe and --set that scored it" in err
    assert f"--teacher {name}; or scores by this recipe: `python -m jobs score`" in err
    assert scores_to_read(tables, None, name, recipe_of(config_of("someone/else")))[1] == name
    assert "warning" not in capsys.readouterr().err


def test_the_same_teacher_read_otherwise_is_warned_of_and_the_same_at_another_place_is_not(
    tables, judges, capsys, tmp_path
):
    name = scored_by(tables, config_of(judges[0]))

    assert scores_to_read(tables, None, None, recipe_of(config_of(judges[0], max_tokens=32)))[1] == name
    assert "all the same: score.max_tokens was 64, the recipe has 32. Expected" in capsys.readouterr().err
    moved = shutil.copytree(judges[0], tmp_path / "moved" / "judge")
    for config in (config_of(moved), config_of(judges[0], precision="auto")):
        assert scores_to_read(tables, None, None, recipe_of(config))[1] == name
        assert "warning" not in capsys.readouterr().err


def test_after_a_vacuum_the_scores_and_the_triplets_are_found_in_their_new_files(tables, judges, capsys):
    scored_by(tables, config_of(judges[0]))
    vacuum(tables, "triplets", "scored_triplets")

    scored, teacher = scores_to_read(tables, None, None, recipe_of(config_of(judges[0])))
    first = curate.run(scored, ALL, teacher=teacher).version
    vacuum(tables, "curated_triplets", "dropped_triplets")

    assert str(scored) == "scored_triplets@1"
    assert version_to_read(tables, "curated_triplets", None) == first
    assert first.num_rows() == len(ROWS)
    assert "from curated_triplets@0 (the newest; curated_triplets@3 holds the same rows)" in capsys.readouterr().err


def test_scores_of_triplets_that_are_gone_are_refused_with_what_scores_the_others(tables):
    rows = scored_rows(ROWS)
    write_scored(write_triplets(tables, rows.head(2)), rows.head(2))
    scored = write_scored(write_triplets(tables, rows.tail(2)), rows.tail(2), is_complete=False)
    vacuum(tables, "triplets")

    told = r"holds the complete scores of triplets@0, which lacks 1 of its 1 .*jobs score --from triplets@1`$"
    with pytest.raises(UserError, match=told):
        curate.run(scored, ALL)
    assert not Path(tables.path("curated_triplets")).exists()


def test_an_older_completion_is_taken_where_only_its_triplets_can_be_read(tables, capsys):
    rows = scored_rows(ROWS)
    write_scored(write_triplets(tables, rows.head(2)), rows.head(2))
    newer = write_triplets(tables, rows.tail(2))
    scored = write_scored(newer, rows.tail(2))
    Path(tables.path("triplets"), newer.files()[0]["path"]).unlink()

    assert curate.run(scored, ALL).counts["rows"].sum() == 2
    assert "passing over the scores of triplets@1, which lacks 1 of its 2" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["delete", "restore"])
def test_a_curation_that_another_program_changed_is_passed_over_and_one_it_went_back_to_is_taken(
    tables, change, capsys
):
    rows = scored_rows(ROWS)
    scored = write_scored(write_triplets(tables, rows), rows)
    versions = [curate.run(scored, ALL).version for _ in range(2)]
    if change == "delete":
        tables.delta("curated_triplets").delete("true")
    else:
        tables.delta("curated_triplets").restore(0)

    assert version_to_read(tables, "curated_triplets", None) == versions[change == "delete"]
    err = capsys.readouterr().err
    if change == "delete":
        assert "passing over curated_triplets@2, which was made by another program (DELETE)" in err
        with pytest.raises(UserError, match=r"curated_triplets@2 was made by another program \(DELETE\)"):
            version_to_read(tables, "curated_triplets", "curated_triplets@2")
    else:
        assert str(version_to_read(tables, "curated_triplets", "curated_triplets@2")) == "curated_triplets@2"


def test_a_newest_curation_by_other_rules_than_the_recipes_is_warned_of_where_none_was_named(tables, capsys):
    config = CurateConfig.model_validate(ALL.model_dump() | {"bi_encoder": {"swap_margin": 0.1}})
    rows = scored_rows(ROWS)
    curate.run(write_scored(write_triplets(tables, rows), rows), config)
    same = load_recipe("quickstart", []).model_copy(update={"curate": config})
    other = same.model_copy(update={"curate": ALL})

    assert [str(curation_to_train_on(tables, given, same)) for given in (None, "curated_triplets@0")] == [
        "curated_triplets@0"
    ] * 2
    curation_to_train_on(tables, "curated_triplets@0", other)
    assert "warning" not in capsys.readouterr().err

    curation_to_train_on(tables, None, other)
    told = " ".join(capsys.readouterr().err.split())
    assert "curated_triplets@0 was not curated as the recipe says" in told
    assert "newest: curate.bi_encoder.swap_margin was 0.1, the recipe has 0.0. Where it is meant: --from" in told


def test_a_table_that_only_others_wrote_to_has_no_version_for_us(tables):
    with new_version(tables, Triplets, Lineage("ingest", [], ALL)) as writer:
        writer.write(scored_rows(ROWS).select(Triplets.polars_schema().keys()))
    tables.delta("triplets").delete("true")
    tables.delta("triplets").create_checkpoint()
    Path(tables.path("triplets"), "_delta_log", f"{0:020}.json").unlink()

    with pytest.raises(UserError, match=r"no version of triplets can be used: triplets@1 .*\(DELETE\)"):
        version_to_read(tables, "triplets", None)
