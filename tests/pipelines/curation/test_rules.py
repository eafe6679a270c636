"""The rules of curation: given rows, expected rows, and what holds for any rows.

Passages are letters; a row is (positive, its score, negative, its score).
"""

import random

import polars as pl
import pytest

from pipelines.curate import CurateConfig, Curation, curate_triplets
from pipelines.curation import outcomes
from pipelines.curation.evaluation_texts import EvaluationTexts
from pipelines.curation.rules import CrossEncoderThresholds
from pipelines.storage.fingerprint import fingerprint
from pipelines.texts.ids import text_id, triplet_id
from schemas import ScoredTriplets
from tests.scored_versions import relevance, scored_rows

# irrelevant below 0, relevant from 0; kept from a margin of 1; swapped above 2; a false negative is less than 1 below
CONFIG = CurateConfig(
    cross_encoder=CrossEncoderThresholds(min_teacher_margin=1.0, swap_margin=2.0, false_negative_margin=1.0)
)
Row = tuple[str, float | None, str, float | None]


def scored(*rows: Row, query: str = "q", **columns: str) -> pl.DataFrame:
    """Scored triplets of one query, their negatives ranked in the order of the rows."""
    of_query = scored_rows([(query, *row) for row in rows], miner="bm25", **columns)
    return of_query.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))


def curate(*rows: Row, config: CurateConfig = CONFIG, **columns: str) -> Curation:
    return curate_triplets(scored(*rows, **columns), config, "cross_encoder")


def kept(curation: Curation) -> list[tuple[str, str, str | None]]:
    """(positive, negative, correction) of the kept rows."""
    return sorted(curation.kept.select("positive", "negative", "correction").rows(), key=str)


def dropped(curation: Curation) -> list[tuple[str, str, str]]:
    """(positive, negative, reason) of the dropped rows."""
    return sorted(curation.dropped.select("positive", "negative", "drop_reason").rows())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("a", 5.0, "a", 5.0), "positive_is_negative"),
        (("a", None, "b", None), "score_not_finite"),
        (("a", float("nan"), "b", 1.0), "score_not_finite"),
        (("a", float("inf"), "b", 1.0), "score_not_finite"),
        (("a", -1.0, "b", 0.5), "teacher_prefers_negative"),  # by 1.5: not more than the swap margin of 2
        (("a", -5.0, "b", -1.0), "teacher_prefers_negative"),  # "b" is irrelevant as well: no positive
        (("a", -1.0, "b", -1.0), "margin_too_small"),
        (("a", -0.5, "b", -1.0), "margin_too_small"),
        (("a", 3.0, "b", 2.5), "no_negative_left"),  # "b" is promoted, and there is no other negative
    ],
)
def test_a_row_is_dropped_with_its_reason(row, reason):
    curation = curate(row)

    assert dropped(curation) == [(row[0], row[2], reason)]
    assert kept(curation) == []


@pytest.mark.parametrize("row", [("a", 3.0, "b", 2.0), ("a", 1.0, "b", -4.0), ("a", -1.0, "b", -2.0)])
def test_a_row_the_teacher_agrees_with_is_kept_as_it_is(row):
    curation = curate(row)

    assert kept(curation) == [(row[0], row[2], None)]
    assert curation.kept["teacher_margin"].to_list() == [row[1] - row[3]]
    assert curation.kept["original_triplet_id"].to_list() == [None]
    assert curation.kept.select("miner", "rank").rows() == [("bm25", 1)]


def test_a_scoring_error_comes_before_every_other_reason():
    curation = curate(("a", None, "a", None), scoring_error="RuntimeError: too long")

    assert dropped(curation) == [("a", "a", "scoring_failed")]


def test_dropped_rows_are_the_scored_rows_and_their_reason():
    rows = scored(("a", -1.0, "b", 0.5))

    dropped_rows = curate_triplets(rows, CONFIG, "cross_encoder").dropped

    assert dropped_rows.drop("drop_reason").equals(rows)


def test_a_teacher_of_cosines_has_its_own_thresholds():
    rows = scored(("a", 0.40, "b", 0.30), ("c", 0.20, "d", 0.45))
    config = CurateConfig()

    as_cosines = curate_triplets(rows, config, "bi_encoder")
    as_logits = curate_triplets(rows, config, "cross_encoder")

    assert kept(as_cosines) == [("a", "b", None), ("d", "c", "swapped")]
    assert dropped(as_logits) == [("a", "b", "no_negative_left"), ("c", "d", "no_negative_left")]


class TestSwapped:
    def test_positive_and_negative_change_places_with_their_scores(self):
        curation = curate(("a", -4.0, "b", 3.0))
        row = curation.kept.row(0, named=True)

        assert (row["positive"], row["negative"], row["correction"]) == ("b", "a", "swapped")
        assert (row["positive_score"], row["negative_score"], row["teacher_margin"]) == (3.0, -4.0, 7.0)
        assert row["positive_relevance"] > row["negative_relevance"]
        assert (row["positive_id"], row["negative_id"]) == (text_id("b"), text_id("a"))
        assert row["triplet_id"] == triplet_id(text_id("q"), text_id("b"), text_id("a"))
        assert row["original_triplet_id"] == triplet_id(text_id("q"), text_id("a"), text_id("b"))
        assert (row["miner"], row["rank"]) == ("given", None)  # no miner chose the old positive
        assert len(curation.dropped) == 0

    def test_a_reversed_row_among_right_ones_is_swapped_back(self):
        curation = curate(("a", 4.0, "n1", -3.0), ("a", 4.0, "n2", -2.0), ("n3", -4.0, "a", 4.0))

        assert kept(curation) == [("a", "n1", None), ("a", "n2", None), ("a", "n3", "swapped")]

    def test_a_positive_that_another_row_confirms_is_swapped_back_though_its_score_is_low(self):
        curation = curate(("a", -0.5, "n1", -4.0), ("n2", -6.0, "a", -0.5))

        assert kept(curation) == [("a", "n1", None), ("a", "n2", "swapped")]

    def test_all_rows_of_a_query_can_be_reversed(self):
        curation = curate(("n1", -3.0, "a", 4.0), ("n2", -2.0, "a", 4.0))

        assert kept(curation) == [("a", "n1", "swapped"), ("a", "n2", "swapped")]

    def test_a_positive_that_another_row_confirms_is_not_demoted(self):
        curation = curate(("a", -1.0, "n1", 2.0), ("a", -1.0, "n2", -5.0))

        assert kept(curation) == [("a", "n2", None)]
        assert dropped(curation) == [("a", "n1", "teacher_prefers_negative")]

    def test_a_negative_that_another_row_confirms_is_not_raised(self):
        curation = curate(("a", -1.0, "n", 2.0), ("b", 6.0, "n", 2.0))

        assert kept(curation) == [("b", "n", None)]
        assert dropped(curation) == [("a", "n", "teacher_prefers_negative")]

    def test_of_a_chain_only_the_swap_to_the_best_passage_is_made(self):
        config = CurateConfig(cross_encoder=CrossEncoderThresholds(relevant_from=-6.0))

        curation = curate(("a", -8.0, "b", -4.0), ("b", -4.0, "c", 3.0), config=config)

        assert kept(curation) == [("c", "b", "swapped")]
        assert dropped(curation) == [("a", "b", "teacher_prefers_negative")]

    def test_a_row_and_its_reverse_become_one(self):
        curation = curate(("a", 4.0, "b", -3.0), ("b", -3.0, "a", 4.0))

        assert kept(curation) == [("a", "b", None)]
        assert dropped(curation) == [("b", "a", "duplicate_after_correction")]

    def test_a_raised_passage_is_a_negative_in_no_other_row(self):
        curation = curate(("a", -4.0, "b", 3.0), ("c", 3.5, "b", 3.0), ("c", 3.5, "d", -5.0))

        assert kept(curation) == [("b", "a", "swapped"), ("c", "d", None)]
        assert dropped(curation) == [("c", "b", "duplicate_after_correction")]  # (b, a) by promotion as well

    def test_switched_off_the_row_is_dropped(self):
        curation = curate(("a", -4.0, "b", 3.0), config=CONFIG.model_copy(update={"corrections": ("promoted",)}))

        assert dropped(curation) == [("a", "b", "teacher_prefers_negative")]


class TestPromoted:
    def test_a_relevant_negative_becomes_the_positive_against_the_best_true_negative(self):
        curation = curate(("a", 3.0, "b", 2.5), ("a", 3.0, "n1", -6.0), ("a", 3.0, "n2", -2.0))
        row = curation.kept.filter(pl.col("correction") == "promoted").row(0, named=True)

        assert kept(curation) == [("a", "n1", None), ("a", "n2", None), ("b", "n2", "promoted")]
        assert (row["positive_score"], row["negative_score"], row["teacher_margin"]) == (2.5, -2.0, 4.5)
        assert (row["positive_id"], row["negative_id"]) == (text_id("b"), text_id("n2"))
        assert row["negative_relevance"] == pytest.approx(relevance(-2.0))
        assert (row["miner"], row["rank"]) == ("bm25", 3)  # as "n2" was chosen
        assert row["triplet_id"] == triplet_id(text_id("q"), text_id("b"), text_id("n2"))
        assert row["original_triplet_id"] == triplet_id(text_id("q"), text_id("a"), text_id("b"))

    def test_it_is_a_negative_in_no_other_row_however_large_the_margin_there(self):
        curation = curate(("a", 3.0, "b", 2.5), ("c", 9.0, "b", 2.5), ("c", 9.0, "n", -2.0))

        assert kept(curation) == [("b", "n", "promoted"), ("c", "n", None)]
        assert dropped(curation) in (
            [("a", "b", "duplicate_after_correction")],  # both rows become (b, n): one of them stays
            [("c", "b", "duplicate_after_correction")],
        )

    def test_the_positive_of_a_confirmed_row_is_a_false_negative_elsewhere(self):
        curation = curate(("a", 9.0, "b", 1.0), ("b", 1.0, "n", -4.0))

        assert kept(curation) == [("b", "n", None)]
        assert dropped(curation) == [("a", "b", "duplicate_after_correction")]

    def test_a_positive_the_teacher_contradicts_may_be_a_negative(self):
        curation = curate(("a", 9.0, "b", -3.0), ("b", -3.0, "n", -2.0))

        assert kept(curation) == [("a", "b", None)]
        assert dropped(curation) == [("b", "n", "teacher_prefers_negative")]

    def test_the_true_negative_keeps_the_margin_and_is_no_false_negative_itself(self):
        curation = curate(("a", 3.0, "b", 2.5), ("c", 9.0, "n", 2.0))  # "n" is 0.5 below "b"

        assert kept(curation) == [("c", "n", None)]
        assert dropped(curation) == [("a", "b", "no_negative_left")]

    def test_a_demoted_positive_is_a_true_negative(self):
        curation = curate(("a", 3.0, "b", 2.5), ("x", -4.0, "c", 3.0))

        assert kept(curation) == [("b", "x", "promoted"), ("c", "x", "swapped")]
        assert curation.kept.select("miner", "rank").rows() == [("given", None), ("given", None)]

    def test_a_text_of_an_evaluation_set_is_no_true_negative(self):
        rows = scored(("a", 3.0, "b", 2.5), ("a", 3.0, "n", -2.0))
        texts = EvaluationTexts(["beir/x@0123456789ab"], pl.Series(["n"]))

        curation = curate_triplets(rows, CONFIG, "cross_encoder", texts)

        assert dropped(curation) == [("a", "b", "no_negative_left"), ("a", "n", "text_in_evaluation_set")]

    def test_switched_off_the_rows_are_dropped_and_the_passage_is_a_negative_in_no_other(self):
        config = CurateConfig(
            corrections=(), cross_encoder=CrossEncoderThresholds(min_teacher_margin=1.0, false_negative_margin=3.0)
        )

        curation = curate(
            ("a", 3.0, "b", 2.5), ("a", 3.0, "c", 1.0), ("d", 9.0, "b", 2.5), ("d", 9.0, "n", 0.0), config=config
        )

        assert kept(curation) == [("d", "n", None)]
        assert dropped(curation) == [
            ("a", "b", "margin_too_small"),
            ("a", "c", "negative_too_relevant"),
            ("d", "b", "negative_too_relevant"),
        ]


@pytest.mark.parametrize("column", ["query", "positive", "negative"])
def test_a_text_of_an_evaluation_set_leaves_whatever_its_case_and_punctuation(column):
    texts = {"query": "what is it", "positive": "a thing", "negative": "no thing"}
    rows = scored((texts["positive"].title() + "!", 5.0, texts["negative"].upper(), -5.0), query="What is it?")

    curation = curate_triplets(rows, CONFIG, "cross_encoder", EvaluationTexts([], pl.Series([texts[column]])))

    assert curation.dropped["drop_reason"].to_list() == ["text_in_evaluation_set"]


@pytest.mark.parametrize(("near_duplicates", "leave"), [(0.9, ["positive", "negative"]), (None, [])])
def test_what_is_nearly_a_text_of_an_evaluation_set_leaves_unless_told_otherwise(near_duplicates, leave):
    document = " ".join(f"word{number}" for number in range(100))
    edited = document.replace("word50", "another")
    rows = [scored((edited, 5.0, "n", -5.0), query="q1"), scored(("p", 5.0, edited, -5.0), query="q2")]
    texts = EvaluationTexts([], pl.Series([document]), near_duplicates)

    curation = curate_triplets(pl.concat(rows), CONFIG, "cross_encoder", texts)

    assert curation.dropped["drop_reason"].to_list() == ["text_in_evaluation_set"] * len(leave)
    assert len(curation.kept) == 2 - len(leave)


def test_queries_do_not_see_each_other():
    one = scored(("a", 4.0, "b", -3.0), query="q1")
    other = scored(("b", 4.0, "a", -3.0), query="q2")

    curation = curate_triplets(pl.concat([one, other]), CONFIG, "cross_encoder")

    assert curation.kept.select("query", "positive", "negative").sort("query").rows() == [
        ("q1", "a", "b"),
        ("q2", "b", "a"),
    ]


def test_no_rows_are_no_rows():
    curation = curate_triplets(scored().head(0), CONFIG, "cross_encoder")

    assert (len(curation.kept), len(curation.dropped)) == (0, 0)


@pytest.fixture(scope="module")
def random_rows() -> pl.DataFrame:
    """1,000 queries of few passages, scores on a coarse grid: ties, contradictions, chains and cycles are common."""
    choose = random.Random(1)
    frames = []
    for number in range(1_000):
        scores = {passage: choose.randint(-8, 8) / 2 for passage in "abcdef"[: choose.randint(2, 6)]}
        pairs = [(p, n) for p in scores for n in scores if p != n or choose.random() < 0.1]
        chosen = choose.sample(pairs, k=min(len(pairs), choose.randint(1, 12)))
        frames.append(scored(*((p, scores[p], n, scores[n]) for p, n in chosen), query=f"query {number}"))
    return pl.concat(frames)


THRESHOLDS = [
    CrossEncoderThresholds(),
    CrossEncoderThresholds(min_teacher_margin=1.0, swap_margin=0.0, irrelevant_below=2.0, relevant_from=-2.0),
    CrossEncoderThresholds(min_teacher_margin=1.0, irrelevant_below=1.0, relevant_from=0.0, false_negative_margin=3.0),
    CrossEncoderThresholds(min_teacher_margin=2.0, swap_margin=0.0, irrelevant_below=9.0, false_negative_margin=-1.0),
]


@pytest.mark.parametrize("corrections", [(), ("swapped",), ("promoted",), ("swapped", "promoted")])
@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_whatever_the_rows(random_rows, thresholds, corrections):
    config = CurateConfig(cross_encoder=thresholds, corrections=corrections)

    curation = curate_triplets(random_rows, config, "cross_encoder")

    assert set(curation.kept["correction"].drop_nulls()) == set(corrections)
    assert (curation.kept["teacher_margin"] >= thresholds.min_teacher_margin).all()
    assert_every_row_has_one_outcome(random_rows, curation)
    assert_no_passage_is_positive_and_negative(curation.kept)
    assert_every_negative_has_its_own_miner_and_rank(random_rows, curation.kept)
    assert_again_changes_nothing(curation, config)
    assert_order_does_not_matter(random_rows, curation, config)


def assert_every_row_has_one_outcome(rows: pl.DataFrame, curation: Curation) -> None:
    originals = curation.kept.select(pl.coalesce("original_triplet_id", "triplet_id").alias("triplet_id"))
    outcomes = pl.concat([originals, curation.dropped.select("triplet_id")])["triplet_id"]
    assert outcomes.sort().equals(rows["triplet_id"].sort())
    assert curation.kept["triplet_id"].is_unique().all()


def assert_no_passage_is_positive_and_negative(kept: pl.DataFrame) -> None:
    positives, negatives = (set(kept.select("query_id", f"{side}_id").rows()) for side in ("positive", "negative"))
    assert not positives & negatives


def assert_every_negative_has_its_own_miner_and_rank(rows: pl.DataFrame, kept: pl.DataFrame) -> None:
    mined = set(rows.select("query_id", "negative_id", "miner", "rank").rows())
    given = {(*row, "given", None) for row in rows.select("query_id", "positive_id").rows()}
    negatives = set(kept.select("query_id", "negative_id", "miner", "rank").rows())
    assert negatives <= mined | given


def assert_again_changes_nothing(curation: Curation, config: CurateConfig) -> None:
    """What was kept, scored again, is kept as it is."""
    unscored = curation.kept.with_columns(positive_tokens_cut=0, negative_tokens_cut=0, scoring_error=None)
    again = curate_triplets(
        unscored.cast({"scoring_error": pl.String}).select(ScoredTriplets.polars_schema().keys()),
        config,
        "cross_encoder",
    )
    assert len(again.dropped) == 0
    assert again.kept.drop("correction", "original_triplet_id").equals(
        curation.kept.drop("correction", "original_triplet_id")
    )


def assert_order_does_not_matter(rows: pl.DataFrame, curation: Curation, config: CurateConfig) -> None:
    shuffled = curate_triplets(rows.sample(fraction=1, shuffle=True, seed=1), config, "cross_encoder")
    assert shuffled.kept.equals(curation.kept)
    assert shuffled.dropped.equals(curation.dropped)


def test_passages_that_are_the_same_as_far_as_the_teacher_reads_are_named():
    row = ("c", -9.0, "d", -9.0)
    cut = {"positive_tokens_cut": 7, "negative_tokens_cut": 2}

    assert dropped(curate(row)) == [("c", "d", "margin_too_small")]
    told = curate_triplets(
        scored(row).with_columns(**{name: pl.lit(n, pl.Int32) for name, n in cut.items()}), CONFIG, "cross_encoder"
    )
    assert dropped(told) == [("c", "d", "equal_when_cut")]
    counts = outcomes.count(*told)
    assert "equal_when_cut 1); equal_when_cut: the passages" in outcomes.too_many_dropped(counts, 0.5)
    assert "score.max_tokens: raise it" in outcomes.too_many_dropped(counts, 0.5)


def verdicts(query: str = "q", **of_passages: bool) -> pl.DataFrame:
    """A judge's word on passages of one query."""
    rows = [(text_id(query), text_id(passage), is_relevant) for passage, is_relevant in of_passages.items()]
    schema = {"query_id": pl.String, "passage_id": pl.String, "is_relevant": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def relabel(*rows: Row, corrections=("swapped", "promoted", "relabelled"), **of_passages: bool) -> Curation:
    config = CONFIG.model_copy(update={"corrections": corrections})
    return curate_triplets(scored(*rows), config, "cross_encoder", verdicts=verdicts(**of_passages))


class TestAPositiveThatHardlyAnswers:
    """Below a least score of -2; the rows' thresholds are CONFIG's."""

    def curate(self, *rows: Row, **of_passages: bool) -> Curation:
        thresholds = CONFIG.cross_encoder.model_copy(update={"min_positive_score": -2.0})
        config = CONFIG.model_copy(update={"cross_encoder": thresholds})
        return curate_triplets(scored(*rows), config, "cross_encoder", verdicts=verdicts(**of_passages))

    def test_goes_however_bad_its_negative_is(self):
        rows = [("a", -4.0, "b", -9.0), ("c", -2.0, "b", -9.0)]

        assert kept(curate(*rows)) == [("a", "b", None), ("c", "b", None)]
        assert kept(self.curate(*rows)) == [("c", "b", None)]
        assert dropped(self.curate(*rows)) == [("a", "b", "positive_too_irrelevant")]

    def test_goes_also_where_a_correction_would_make_it_one(self):
        swapped = ("a", -6.0, "b", -2.5)
        lenient = CONFIG.cross_encoder.model_copy(update={"relevant_from": -3.0})

        assert kept(curate(swapped, config=CONFIG.model_copy(update={"cross_encoder": lenient}))) == [
            ("b", "a", "swapped")
        ]
        strict = lenient.model_copy(update={"min_positive_score": -2.0})
        assert dropped(curate(swapped, config=CONFIG.model_copy(update={"cross_encoder": strict}))) == [
            ("a", "b", "positive_too_irrelevant")
        ]

    def test_stands_where_it_would_be_swapped_or_a_judge_calls_it_relevant(self):
        assert kept(self.curate(("a", -4.0, "b", 3.0))) == [("b", "a", "swapped")]
        assert kept(self.curate(("a", -4.0, "b", -9.0), a=True)) == [("a", "b", None)]

    def test_has_the_reason_that_the_teacher_gives_for_the_row_first(self):
        assert dropped(self.curate(("a", -4.0, "b", -4.5))) == [("a", "b", "margin_too_small")]


class TestAJudge:
    def test_makes_a_negative_that_it_calls_relevant_a_positive_against_a_true_negative(self):
        rows = [("a", 5.0, "b", 3.0), ("a", 5.0, "n", -5.0)]

        assert kept(curate(*rows)) == [("a", "b", None), ("a", "n", None)]
        assert kept(relabel(*rows, b=True)) == [("a", "n", None), ("b", "n", "relabelled")]

    def test_has_it_dropped_where_that_correction_is_not_made_even_if_the_teacher_would_promote_it(self):
        rows = [("a", 5.0, "b", 4.8), ("a", 5.0, "n", -5.0)]
        curation = relabel(*rows, corrections=("swapped", "promoted"), b=True)

        assert dropped(curation) == [("a", "b", "judged_relevant")]
        assert dropped(relabel(("a", 5.0, "b", 3.0), b=True)) == [("a", "b", "no_negative_left")]

    def test_keeps_a_negative_that_the_teacher_would_promote(self):
        """`b` is a false negative of the first row, so by the teacher a positive in both."""
        rows = [("a", 5.0, "b", 4.5), ("c", 6.0, "b", 4.5), ("a", 5.0, "n", -5.0)]
        curation = relabel(*rows, b=False)

        assert [correction for *_, correction in kept(curate(*rows))] == [None, "promoted"]
        assert kept(curation) == [("a", "n", None), ("c", "b", None)]
        assert dropped(curation) == [("a", "b", "margin_too_small")]

    def test_has_no_negative_raised_that_it_calls_not_relevant(self):
        row = ("a", -4.0, "b", 3.0)

        assert kept(curate(row)) == [("b", "a", "swapped")]
        assert kept(relabel(row, b=True)) == [("b", "a", "swapped")], "both say so"
        assert dropped(relabel(row, b=False)) == [("a", "b", "teacher_prefers_negative")]
        assert dropped(relabel(row, a=True)) == [("a", "b", "teacher_prefers_negative")]

    def test_drops_a_positive_that_it_calls_not_relevant_which_then_is_a_true_negative(self):
        rows = [("a", 2.0, "n", -5.0), ("a", 2.0, "b", 5.0)]

        assert dropped(relabel(rows[0], a=False)) == [("a", "n", "positive_judged_irrelevant")]
        curation = relabel(*rows, a=False, b=True)
        assert kept(curation) == [("b", "a", "relabelled")]
        assert dropped(curation) == [("a", "n", "positive_judged_irrelevant")]

    def test_of_another_query_is_not_heard(self):
        curation = curate_triplets(
            scored(("a", 5.0, "b", 3.0)), CONFIG, "cross_encoder", verdicts=verdicts("other", b=True)
        )

        assert kept(curation) == [("a", "b", None)]


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_whatever_a_judge_says_every_row_has_one_outcome_and_every_passage_one_role(random_rows, thresholds):
    pairs = pl.concat([random_rows.select("query_id", passage_id=f"{side}_id") for side in ("positive", "negative")])
    said = pairs.unique().filter(pl.col("passage_id").hash(1) % 3 < 2)
    said = said.with_columns(is_relevant=(pl.col("query_id") + pl.col("passage_id")).hash(2) % 2 == 0)
    config = CurateConfig(cross_encoder=thresholds)
    curation = curate_triplets(random_rows, config, "cross_encoder", verdicts=said)

    assert set(curation.kept["correction"].drop_nulls()) >= {"relabelled"}
    assert_every_row_has_one_outcome(random_rows, curation)
    assert_no_passage_is_positive_and_negative(curation.kept)
    assert_every_negative_has_its_own_miner_and_rank(random_rows, curation.kept)
    refused, relevant = (
        said.filter(pl.col("is_relevant") == one).rename({"passage_id": "id"}) for one in (False, True)
    )
    on = ["query_id", "id"]
    assert curation.kept.rename({"positive_id": "id"}).join(refused, on=on, how="semi").is_empty()
    assert curation.kept.rename({"negative_id": "id"}).join(relevant, on=on, how="semi").is_empty()


def test_a_curation_without_a_judge_has_the_fingerprint_that_it_had_before_there_were_any():
    without = CurateConfig().model_dump(mode="json")

    assert without == CurateConfig(corrections=("swapped", "promoted")).model_dump(mode="json")
    assert fingerprint(CurateConfig()) == "8151579686fc"
    assert CurateConfig(bi_encoder={"min_positive_score": 0.2}).model_dump()["bi_encoder"]["min_positive_score"] == 0.2
    assert CurateConfig(judge="m@0123456789ab").model_dump()["corrections"] == ("swapped", "promoted", "relabelled")
