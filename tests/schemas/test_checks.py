"""Every check of every table refuses the rows it is for, and no other check does."""

from math import inf, nan
from typing import Any

import pandera.errors
import polars as pl
import pytest

from schemas import TABLES, Table
from schemas.generated_queries import MAX_ANSWER_CHARS
from schemas.quarantined_rows import MAX_RAW_BYTES
from tests.rows import frame_of

Rows = list[dict[str, Any]]

BREAKS: list[
    tuple[str, Rows]
] = [  # a check of our own, and what two or fewer otherwise valid rows must hold to break it
    ("positive_is_not_negative", [{"positive": "the same", "negative": "the same"}]),
    ("scores_are_finite_or_explained", [{"positive_score": None}]),
    ("scores_are_finite_or_explained", [{"negative_score": nan}]),
    ("scores_are_finite_or_explained", [{"positive_score": inf}]),
    ("is_finite", [{"teacher_margin": inf}]),
    ("query_stays_in_one_split", [{"query": "q", "split": "train"}, {"query": "q", "split": "test"}]),
    ("correction_names_its_original", [{"correction": "swapped"}]),
    ("correction_names_its_original", [{"original_triplet_id": "0" * 32}]),
    ("has_a_reason", [{"reasons": []}]),
    ("raw_is_short", [{"raw": "é" * (MAX_RAW_BYTES // 2) + "x"}]),
    ("has_unit_length", [{"vector": [0.8, 0.8]}]),
    ("has_unit_length", [{"vector": []}]),
    ("has_a_pair_or_a_reason", [{"query": "asked", "positive": None}]),
    ("has_a_pair_or_a_reason", [{"reason": "refused", "query": "asked", "positive": "an answer"}]),
    ("has_a_verdict_or_a_reason", [{"verdict": "relevant", "reason": "refused"}]),
    ("has_a_verdict_or_a_reason", [{"verdict": None, "reason": None}]),
    ("negative_is_not_positive", [{"positive_id": "0" * 32, "negative_id": "0" * 32}]),
    ("answer_is_short", [{"answer": "é" * (MAX_ANSWER_CHARS + 1)}]),
]
COLUMNS = [(name, column) for name, table in TABLES.items() for column in table.polars_schema()]


def failure_cases(table: type[Table], frame: pl.DataFrame) -> list[tuple[str, str, str]]:
    """(column or table, check, value) of all that is refused."""
    try:
        table.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return error.failure_cases.select("column", "check", pl.col("failure_case").cast(pl.String)).rows()
    return []


def failures(table: type[Table], frame: pl.DataFrame) -> set[tuple[str, str]]:
    """(column or table, check) of every check that refuses the frame."""
    return {(place, check) for place, check, _ in failure_cases(table, frame)}


def own_checks(table: type[Table]) -> set[str]:
    """The checks that are methods of the table, its own or inherited."""
    schema = table.to_schema()
    checks = [*schema.checks, *(check for column in schema.columns.values() for check in column.checks)]
    return {check.name for check in checks if hasattr(table, check.name)}


@pytest.mark.parametrize(
    ("name", "check", "rows"),
    [(name, check, rows) for check, rows in BREAKS for name, table in TABLES.items() if check in own_checks(table)],
)
def test_rows_that_break_one_check_are_refused_by_it_alone(name, check, rows):
    ((_, told),) = failures(TABLES[name], frame_of(TABLES[name], *rows))

    assert told == check


def test_every_check_of_our_own_has_rows_that_break_it():
    assert {check for check, _ in BREAKS} == set().union(*map(own_checks, TABLES.values()))


def test_a_row_that_could_not_be_scored_is_valid_with_its_reason():
    unscored = {"positive_score": None, "negative_score": None, "scoring_error": "RuntimeError: too long"}

    assert failures(TABLES["scored_triplets"], frame_of(TABLES["scored_triplets"], unscored)) == set()


@pytest.mark.parametrize("name", TABLES)
def test_made_up_rows_are_valid_and_so_is_a_table_without_any(name):
    rows = frame_of(TABLES[name], {}, {}, {})

    assert failures(TABLES[name], rows) == set()
    assert failures(TABLES[name], rows.clear()) == set()


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_a_column_of_another_type_is_refused(name, column):
    dtype = TABLES[name].polars_schema()[column]
    rows = frame_of(TABLES[name]).with_columns(pl.lit("yes" if dtype == pl.Boolean else True).alias(column))

    assert (column, f"dtype('{dtype}')") in failures(TABLES[name], rows)


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_null_is_refused_where_the_column_says_so(name, column):
    table = TABLES[name]
    rows = frame_of(table, {}, {}).with_columns(
        pl.when(pl.int_range(pl.len()) > 0).then(column).alias(column)  # the second row keeps its value
    )
    refused = (column, "not_nullable") in failures(table, rows)

    assert refused == (not table.to_schema().columns[column].nullable)
    assert table.arrow_schema().field(column).nullable == (not refused)


@pytest.mark.parametrize("name", TABLES)
def test_a_key_that_stands_twice_is_refused(name):
    row = frame_of(TABLES[name])

    assert failures(TABLES[name], pl.concat([row, row])) == {(name, "multiple_fields_uniqueness")}


@pytest.mark.parametrize("name", TABLES)
def test_a_column_too_many_or_too_few_is_refused_by_name(name):
    row = frame_of(TABLES[name])
    last = row.columns[-1]

    assert failure_cases(TABLES[name], row.with_columns(unheard_of=1)) == [(name, "column_in_schema", "unheard_of")]
    assert (name, "column_in_dataframe", last) in failure_cases(TABLES[name], row.drop(last))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_a_key_and_statistics_among_its_columns(name):
    table = TABLES[name]
    columns = set(table.arrow_schema().names)

    assert table.key_columns()
    assert set(table.key_columns()) <= columns
    assert table.statistics_columns()
    assert set(table.statistics_columns()) <= columns
