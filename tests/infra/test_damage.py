import polars as pl
import pytest

from infra.damage import damage, second_half

LONG = "solve: First it factors. Then it iterates. At last it checks."


def mined(num_queries: int = 40, source: str = "rotten") -> pl.DataFrame:
    """Two triplets a query; every tenth query is held out."""
    rows = [
        (f"{source} query {number}", f"{LONG} {source} {number}", f"{source} negative {number} {which}", source)
        for number in range(num_queries)
        for which in range(2)
    ]
    frame = pl.DataFrame(rows, schema=["query", "positive", "negative", "source"], orient="row")
    is_held_out = frame["query"].str.ends_with("0")
    return frame.with_columns(split=pl.when(is_held_out).then(pl.lit("test")).otherwise(pl.lit("train")))


@pytest.fixture
def damaged() -> pl.DataFrame:
    return damage(pl.concat([mined(), mined(source="clean")]), "rotten", seed=0, swapped=0.25, false_negatives=0.125)


def test_the_stated_shares_of_one_source_are_damaged_and_nothing_else(damaged):
    counts = dict(damaged.group_by("damage").len().iter_rows())

    assert counts == {"swapped": 18, "false_negative": 9, None: 133}  # of 72 training rows; the rest of 160 is clean
    assert set(damaged.filter(pl.col("damage").is_not_null())["source"]) == {"rotten"}


def test_held_out_queries_are_left_alone(damaged):
    assert set(damaged.filter(pl.col("damage").is_not_null())["split"]) == {"train"}


def test_no_passage_of_a_held_out_query_becomes_a_positive_in_training():
    held_out_passage = f"{LONG} rotten 0"
    triplets = mined().with_columns(negative=pl.lit(held_out_passage)).unique()

    assert damage(triplets, "rotten", seed=0, swapped=1.0, false_negatives=0.0)["damage"].is_null().all()


def test_swapped_texts_change_places_and_a_false_negative_is_a_part_of_the_answer(damaged):
    swapped = damaged.filter(damage="swapped")
    false_negatives = damaged.filter(damage="false_negative")

    assert swapped["positive"].str.contains(" negative ").all()
    assert swapped["negative"].str.starts_with("solve: ").all()
    assert false_negatives["negative"].str.starts_with("solve: Then it iterates.").all()


def test_without_a_source_the_share_is_of_all_sources():
    both = damage(pl.concat([mined(), mined(source="clean")]), None, seed=0, swapped=0.25, false_negatives=0.0)
    swapped = both.filter(damage="swapped")

    assert len(swapped) == 36  # of 144 training rows
    assert set(swapped["source"]) == {"rotten", "clean"}
    assert set(swapped["split"]) == {"train"}


def test_the_same_seed_damages_the_same_rows_in_any_input_order():
    triplets = mined()
    first = damage(triplets, "rotten", seed=3, swapped=0.3, false_negatives=0.1)
    second = damage(triplets.sample(fraction=1.0, shuffle=True, seed=1), "rotten", 3, swapped=0.3, false_negatives=0.1)

    assert first.equals(second)
    assert not first.equals(damage(triplets, "rotten", seed=4, swapped=0.3, false_negatives=0.1))


def test_a_short_passage_has_no_second_half():
    assert second_half("solve: One sentence. And one more.") is None
