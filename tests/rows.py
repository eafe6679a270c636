"""Valid rows of any table, written as the few values that a test is about.

    frame_of(ScoredTriplets, {"query": "a"}, {"query": "b", "positive": "p"}, teacher="judge@0123456789ab")

Ids follow from texts; a nullable column is null; any other column takes the first value that its own Pandera checks
accept. Rows differ in their key.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandera.errors
import pandera.polars as pa
import polars as pl

from pipelines.texts.ids import text_id, triplet_id
from pipelines.texts.splits import split_of
from schemas import GeneratedQueries, PassageJudgements, Table, Triplets


def frame_of(table: type[Table], *rows: Mapping[str, Any], **every_row: Any) -> pl.DataFrame:
    """One row of the table per mapping, or a single one without any; `every_row` holds what all of them share.

    What is given is taken as it is, valid or not. Raises KeyError for a column that the table does not have.
    """
    columns = table.polars_schema()
    given = [{**every_row, **row} for row in rows or [{}]]
    unknown = {name for row in given for name in row} - columns.keys()
    if unknown:
        raise KeyError(f"{table.table_name()} has no column {', '.join(sorted(unknown))}; it has {', '.join(columns)}")
    return pl.DataFrame([_row(table, row, number) for number, row in enumerate(given, start=1)], schema=columns)


def _row(table: type[Table], given: Mapping[str, Any], number: int) -> dict[str, Any]:
    row = _following(table, given, number)
    numbered = next((name for name in table.key_columns() if name not in given), None)
    for name in table.polars_schema().keys() - row.keys():
        row[name] = _value(table, name, f"{name} {number}" if name == numbered else name)
    return row


def _following(table: type[Table], given: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What is given, and what of the rest follows from it or from texts and scores together."""
    row = dict(given)
    if issubclass(table, GeneratedQueries) and row.get("reason") is None:
        return {"query": f"query {number}", "positive": f"positive {number}"} | row
    if issubclass(table, PassageJudgements) and row.get("reason") is None:
        return {"verdict": "relevant"} | row
    if not issubclass(table, Triplets):
        return row
    for role in ("query", "positive", "negative"):
        row.setdefault(f"{role}_id", text_id(row.setdefault(role, f"{role} {number}")))
    row.setdefault("triplet_id", triplet_id(row["query_id"], row["positive_id"], row["negative_id"]))
    if "positive_score" in table.polars_schema():
        row = {"positive_score": 1.0, "negative_score": 0.0} | row
    if "teacher_margin" in table.polars_schema():
        row.setdefault("teacher_margin", row["positive_score"] - row["negative_score"])
    return row


def _value(table: type[Table], name: str, word: str) -> Any:
    position = _accepted(table, name)
    return None if position is None else _candidates(table, name, word)[position]


@cache
def _accepted(table: type[Table], name: str) -> int | None:
    """Which of a column's candidates its checks accept; None if it is null."""
    column = table.to_schema().columns[name]
    if column.nullable:
        return None
    candidates = _candidates(table, name, name)
    for position, candidate in enumerate(candidates):
        frame = pl.DataFrame({name: [candidate]}, schema={name: column.dtype.type})
        try:
            pa.DataFrameSchema({name: column}).validate(frame)
        except pandera.errors.SchemaError:
            continue
        return position
    raise LookupError(f"{table.table_name()}.{name}: none of {candidates} passes its checks; add one that does")


def _candidates(table: type[Table], name: str, word: str) -> list[Any]:
    """Values to try, the most readable first."""
    column = table.to_schema().columns[name]
    if column.dtype.type == pl.String:
        allowed = [value for check in column.checks for value in (check.statistics or {}).get("allowed_values", [])]
        digits = hashlib.sha256(word.encode()).hexdigest()
        return [*allowed, word, f"{word}@{digits[:12]}", digits[:12], digits[:32], digits]
    if column.dtype.type == pl.List(pl.String):
        return [[word]]
    if column.dtype.type == pl.List(pl.Float32):
        return [[1.0, 0.0]]
    return [0, 1]


def split_of_text(query: str, dev_share: float, test_share: float) -> str:
    """`split_of` for a single query."""
    return str(pl.select(split_of(pl.lit(query), dev_share, test_share)).item())
