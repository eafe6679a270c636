import polars as pl

from infra.judge_noise import PREFERS_NEGATIVE, clean_lost, judge

JUDGED = pl.DataFrame(
    [
        ("swapped", "swapped"),
        ("swapped", "teacher_prefers_negative"),
        ("swapped", None),  # missed
        ("false_negative", "promoted"),
        ("false_negative", "swapped"),  # damaged otherwise: no false alarm of the swaps
        (None, "swapped"),  # a false alarm
        (None, "margin_too_small"),
        (None, None),
        (None, None),
    ],
    schema={"damage": pl.String, "verdict": pl.String},
    orient="row",
)


def test_each_damage_is_judged_against_the_clean_triplets():
    swaps = judge(JUDGED, "swapped", pl.col("verdict").is_in(PREFERS_NEGATIVE))
    false_negatives = judge(JUDGED, "false_negative", pl.col("verdict").is_not_null())

    assert swaps == "2 of 3 found: precision 0.667, recall 0.667"
    assert false_negatives == "2 of 2 found: precision 0.500, recall 1.000"


def test_clean_triplets_that_were_dropped_or_changed_are_counted():
    assert clean_lost(JUDGED) == "2 of 4 clean triplets lost or changed: 50.0%"
