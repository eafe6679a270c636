"""Rows on disk are what they were, in their order, as often as they are asked for."""

import pytest

from pipelines.mining import spooled
from pipelines.mining.spooled import Spooled

ROWS = [(number, f"row {number}", None) for number in range(25)]


@pytest.mark.parametrize("at_once", [1, 10, 25, 100])
def test_rows_come_back_in_their_order_as_often_as_asked(monkeypatch, at_once):
    monkeypatch.setattr(spooled, "ROWS_AT_ONCE", at_once)
    rows = Spooled(ROWS[:13])
    assert list(rows) == ROWS[:13]
    for row in ROWS[13:]:
        rows.append(row)

    assert (list(rows), len(rows)) == (ROWS, 25)
    assert [row for row, *_ in zip(rows, rows, strict=True)] == ROWS
    assert max(map(len, rows.blocks())) == min(at_once, 25)
    assert list(Spooled()) == []
