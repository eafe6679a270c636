"""Models on one common data set, best first; SQL itself is asked in tests/jobs/test_command_line.py."""

import json
import re

import polars as pl
import pytest

from pipelines.inspection.leaderboard import board_lines, chosen_on_dev, leaderboard
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.commits import EvaluationResult
from schemas import Evaluations, Models
from tests.rows import frame_of

HEX = "0" * 12
PETS, CARS = "beir/pets@0123456789ab", "curated_triplets@7/test"


def model(name, **columns):
    return {"model_id": f"{name}@{HEX}", "name": name, "recipe": json.dumps({"num_layers": 3}), "seconds": 1_234.4,
            "curated_version": "curated_triplets@7", **columns}  # fmt: skip


@pytest.fixture
def tables(tmp_path):
    """Three models: `a` and `b` chosen on the same dev queries, `c` on none."""
    root = Tables.at(str(tmp_path / "tables"))
    dev = {"dev_set": "curated_triplets@7/dev"}
    rows = [
        model("c", vectors_version="teacher_vectors@3"),
        model("b", dev_ndcg_at_10=0.5, **dev),
        model("a", dev_ndcg_at_10=0.25, **dev),
    ]
    with new_version(root, Models, Lineage("distill", [], Config())) as models:
        models.write(frame_of(Models, *rows))
    return root


def evaluated(tables, data_set, systems, **values):
    """An evaluation: per system its nDCG@10 of two queries by dimension."""
    rows = [
        {"model_id": system, "dimension": dimension, "query_id": query, "metric": metric, "value": value}
        for system, by_dimension in values.items()
        for dimension, of_queries in by_dimension.items()
        for query, value in zip(("q1", "q2"), of_queries, strict=True)
        for metric in ("nDCG@10", "R@100")
    ]
    named = {"a": f"a@{HEX}", "b": f"b@{HEX}", "c": f"c@{HEX}"}
    rows = [row | {"model_id": named.get(row["model_id"], row["model_id"])} for row in rows]
    told = {named.get(system, system): role for system, role in systems.items()}
    result = EvaluationResult(systems=told, sizes={data_set: {"queries": 2, "passages": 9}})
    with new_version(tables, Evaluations, Lineage("evaluate", [], Config(), result)) as evaluations:
        evaluations.write(frame_of(Evaluations, *rows, data_set=data_set))


def three_evaluations(tables):
    shared = {"teacher": {32: (0.5, 0.5)}, "bm25": {0: (0.25, 0.25)}}
    evaluated(tables, PETS, {"a": "student", "teacher": "teacher", "bm25": "bm25"}, a={32: (0.5, 1.0), 8: (0.25, 0.5)},
              **shared)  # fmt: skip
    evaluated(tables, PETS, {"b": "student"}, b={32: (0.5, 0.75), 8: (0.5, 0.5)})
    evaluated(tables, CARS, {"c": "student"}, c={32: (1.0, 1.0)})


def test_one_row_a_model_best_first_on_the_data_set_that_most_have_the_others_last(tables):
    three_evaluations(tables)

    board = leaderboard(tables)

    names = ["model_id", "data_set", "dimension", "nDCG@10", "smallest_nDCG@10", "dev_nDCG@10", "minus_teacher"]
    assert board.select(*names, "minus_bm25", "num_layers").rows() == [
        (f"a@{HEX}", PETS, 32, 0.75, 0.375, 0.25, 0.25, 0.5, 3),
        (f"b@{HEX}", PETS, 32, 0.625, 0.5, 0.5, None, 0.375, 3),
        (f"c@{HEX}", None, None, None, None, None, None, None, 3),
    ]
    assert board["queries"].to_list() == [2, 2, None]


@pytest.mark.parametrize("on", [CARS, "beir/pets", PETS])
def test_a_data_set_is_named_with_or_without_its_digest(tables, on):
    three_evaluations(tables)

    first = leaderboard(tables, on).row(0, named=True)

    assert (first["model_id"][0], first["data_set"]) == (("c", CARS) if on == CARS else ("a", PETS))


def test_a_data_set_that_nobody_was_evaluated_on_is_refused_with_those_there_are(tables):
    three_evaluations(tables)

    with pytest.raises(UserError, match=f"no model was evaluated on cars; expected one of {PETS}, {CARS}"):
        leaderboard(tables, "cars")


def test_before_any_evaluation_the_models_stand_alone(tables):
    board = leaderboard(tables)

    assert board["model_id"].to_list() == [f"{name}@{HEX}" for name in "abc"]
    assert board["nDCG@10"].null_count() == 3
    with pytest.raises(UserError, match=r"no model was evaluated on pets; expected one of none: .python -m jobs eval"):
        leaderboard(tables, "pets")


def test_the_choice_is_the_best_on_dev_where_several_share_it(tables):
    three_evaluations(tables)

    assert chosen_on_dev(leaderboard(tables)).rows() == [(f"b@{HEX}", 0.5, "curated_triplets@7/dev")]


def test_a_log_gets_every_column_and_long_names_cut(tables):
    three_evaluations(tables)
    with new_version(tables, Models, Lineage("distill", [], Config())) as models:
        models.write(frame_of(Models, model("n" * 200, seconds=1_234_567.0)))

    lines = board_lines(leaderboard(tables))

    header = "  model nDCG@10 smallest dev vs teacher vs BM25 layers seconds data vectors"
    assert lines[0].split() == header.split()
    assert lines[1].split() == [f"a@{HEX}", "0.750", "0.375", "0.250", "+0.250", "+0.500", "3", "1,234", "7"]
    assert any(line.startswith(f"  {'n' * 39}…  ") for line in lines)
    assert "█" not in "".join(lines)


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (100, []),
        (80, ["layers", "seconds", "data", "vectors"]),
        (60, ["vs BM25", "layers", "seconds", "data", "vectors"]),
    ],
)
def test_a_terminal_without_room_for_a_column_is_told_which_is_left_out_and_no_line_is_longer(tables, width, left_out):
    three_evaluations(tables)

    lines = board_lines(leaderboard(tables), width, with_bars=True)

    assert max(map(len, lines)) <= width
    assert lines[1].split()[0] == f"a@{HEX}"
    told = " ".join(lines[4:])
    assert f"Left out: {', '.join(left_out)}; a wider terminal has them, and --json." in told or not left_out
    assert not any(name in lines[0] for name in left_out)
    assert ("data: version of" in told) == ("data" not in left_out)
    assert max(map(len, board_lines(leaderboard(tables), 40))) <= 40


def test_a_terminal_with_room_gets_a_bar_beside_each_measured_value(tables):
    three_evaluations(tables)
    board = leaderboard(tables)

    wide = board_lines(board, 200, with_bars=True)
    assert [[len(bar) for bar in re.findall("█+", line)] for line in wide[1:4]] == [[15, 7, 5], [12, 10, 10], []]
    assert "0.375    ███████▌" in wide[1]
    narrow = board_lines(board, 80, with_bars=True)
    assert [len(re.findall("█+", line)) for line in narrow[1:4]] == [3, 3, 0]
    assert board_lines(board, 200) != wide
    assert "█" not in "".join(board_lines(board, 200))
    assert max(map(len, board_lines(board, 130, with_bars=True))) <= 130


def test_a_column_that_no_model_has_a_value_for_is_not_there_nor_is_what_would_be_said_of_it(tables):
    three_evaluations(tables)
    board = leaderboard(tables)

    assert "To choose among models take dev." in " ".join(board_lines(board))
    none = " ".join(board_lines(board.with_columns(pl.lit(None, pl.Float64).alias("dev_nDCG@10"))))
    assert "dev" not in none
