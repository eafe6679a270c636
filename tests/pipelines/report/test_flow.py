"""A flow as a picture: widths are counts, ribbons fill the bars at their ends, and rare reasons stand together."""

import polars as pl
import pytest

from pipelines.report.flow import BODY, MOST_REASONS, SLOT, THIN, flow, gathered
from pipelines.report.svg import drawn

FLOWS = pl.DataFrame(
    [("kept", "dropped:weak", 60), ("corrected:swapped", "dropped:weak", 20), ("kept", "corrected:swapped", 19),
     ("dropped:weak", "absent", 1)],
    ["before", "after", "rows"], orient="row",
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    """Points of the ribbons, and the bars."""
    ribbons, bars, *_ = flow(FLOWS, "title", "sentence").chart.to_dict()["layer"]
    sets = flow(FLOWS, "title", "sentence").chart.to_dict()["datasets"]
    return pl.DataFrame(sets[ribbons["data"]["name"]]), pl.DataFrame(sets[bars["data"]["name"]])


def test_ribbons_are_as_wide_as_counts_and_in_the_colour_of_what_the_rows_became(data):
    ends = data[0].with_columns(wide=pl.col("high") - pl.col("low")).filter(pl.col("x").is_in([0.0, 1.0]))
    wide = {(row["stream"], row["x"]): row["wide"] for row in ends.to_dicts()}

    assert wide["kept -> dropped:weak", 0.0] == pytest.approx(BODY * 60 / 100)
    assert wide["kept -> dropped:weak", 1.0] == pytest.approx(BODY * 60 / 100)
    assert wide["corrected:swapped -> dropped:weak", 1.0] == pytest.approx(BODY * 20 / 100)
    assert wide["dropped:weak -> absent", 0.0] == pytest.approx(max(THIN, BODY / 100))
    assert dict(data[0].select("stream", "outcome").iter_rows())["kept -> corrected:swapped"] == "corrected"


def test_bars_are_filled_and_leave_room_for_their_names(data):
    ribbons, bars = data
    for x in (0.0, 1.0):
        of_side = bars.filter(pl.col("x") == x).sort("low")
        reached = ribbons.filter(pl.col("x") == x).select(pl.col("low").min(), pl.col("high").max())
        assert reached.row(0) == pytest.approx((of_side["low"].min(), of_side["high"].max()))
        assert of_side["middle"].diff().drop_nulls().min() >= SLOT
    assert bars.filter(pl.col("x") == 0)["told"].to_list() == ["kept 79", "corrected 20\nswapped", "dropped 1\nweak"]
    assert bars.filter(pl.col("x") == 1)["told"].to_list() == ["corrected 19\nswapped", "dropped 80\nweak", "absent 1"]


def test_rare_reasons_stand_together_and_no_row_is_lost():
    flows = pl.DataFrame(
        {"before": "kept", "after": [f"dropped:reason {at}" for at in range(40)], "rows": range(40, 0, -1)}
    )
    told = gathered(flows)

    assert told["rows"].sum() == flows["rows"].sum()
    assert len(told) == MOST_REASONS + 1
    assert told.filter(after="dropped:others")["rows"].item() == sum(range(1, 34))
    assert "others" in drawn(flow(told, "title", "sentence"), 1)
