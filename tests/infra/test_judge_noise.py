import polars as pl

from infra.judge_noise import SWAPPED_BACK, clean_lost, judge

JUDGED = pl.DataFrame(
    [
        ("swapped", "swapped"),
        ("swapped", "teacher_prefers_negative"),
        ("swapped", None),  # missed
        ("false_negative", "promoted"),
        ("false_negative", "swapped"),  # damaged, but no swap: a false alarm of the swaps
        (None, "swapped"),  # a false alarm
        (None, "margin_too_small"),
        (None, None),
        (None, None),
    ],
    schema={"damage": pl.String, "verdict": pl.String},
    orient="row",
)


def test_swaps_are_judged_against_everything_that_was_swapped_back():
    swaps = judge(JUDGED, "swapped", pl.col("verdict").is_in(SWAPPED_BACK))

    assert swaps == "1 of 3 found: precision 0.333, recall 0.333"


def test_false_negatives_are_judged_against_the_clean_triplets():
    unswapped = JUDGED.filter(pl.col("damage").fill_null("") != "swapped")

    told = judge(unswapped, "false_negative", pl.col("verdict").is_not_null())

    assert told == "2 of 2 found: precision 0.500, recall 1.000"


def test_clean_triplets_that_were_dropped_or_changed_are_counted():
    assert clean_lost(JUDGED) == "2 of 4 clean triplets lost or changed: 50.0%"
