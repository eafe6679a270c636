"""The batch plan: every group once an epoch, the same for any number of ranks, and little padding."""

import numpy as np
import pytest

from pipelines.stage.errors import UserError
from pipelines.students.data.plan import Schedule, padded_tokens, plan_epoch, share_texts, step_batch, turns_of_groups
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.training_config import TrainingConfig

GROUPS = 1_000
RNG = np.random.default_rng(0)
GROUP_TOKENS = RNG.integers(8, 512, GROUPS)
GROUP_TRIPLETS = RNG.integers(1, 9, GROUPS)


def plan(seed=1, epoch=0, group_triplets=GROUP_TRIPLETS, **changes):
    settings = {"triplets_per_step": 64, "window_steps": 10} | changes
    return plan_epoch(GROUP_TOKENS[: len(group_triplets)], group_triplets, seed=seed, epoch=epoch, **settings)


def steps_of(epoch_plan):
    return [np.sort(groups).tolist() for groups in epoch_plan]


def lengths(num_texts, seed=0):
    """Token counts of texts, longest first, as skewed as real ones."""
    tokens = np.random.default_rng(seed).lognormal(4, 0.8, num_texts).astype(int)
    return np.sort(np.clip(tokens, 5, 512))[::-1]


def test_every_group_comes_once_an_epoch():
    groups = [group for step in steps_of(plan()) for group in step]

    assert sorted(groups) == list(range(GROUPS))


def test_plan_is_a_function_of_seed_epoch_and_lengths():
    assert steps_of(plan(seed=1, epoch=2)) == steps_of(plan(seed=1, epoch=2))
    assert steps_of(plan(seed=1, epoch=2)) != steps_of(plan(seed=1, epoch=3))
    assert steps_of(plan(seed=1, epoch=2)) != steps_of(plan(seed=2, epoch=2))


def test_steps_hold_the_asked_triplets_to_within_a_group():
    triplets = np.array([GROUP_TRIPLETS[step].sum() for step in steps_of(plan())])

    assert len(plan()) == -(-GROUP_TRIPLETS.sum() // 64)
    assert abs(np.sort(triplets)[1:] - 64).max() < GROUP_TRIPLETS.max()  # the last step has what is left


def test_group_larger_than_a_step_is_a_step_of_its_own_triplets():
    steps = steps_of(plan(group_triplets=np.array([1, 200, 1, 1])))

    assert sorted(group for step in steps for group in step) == [0, 1, 2, 3]
    assert all(steps)


def test_groups_of_a_step_have_similar_lengths_and_steps_come_shuffled():
    grouped = [GROUP_TOKENS[step] for step in steps_of(plan())]
    random_order = [GROUP_TOKENS[step] for step in steps_of(plan(window_steps=1))]
    means = np.array([tokens.mean() for tokens in grouped])

    assert np.mean([tokens.std() for tokens in grouped]) < 0.5 * np.mean([tokens.std() for tokens in random_order])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5


def cache_of(triplet_texts, group_triplets, text_tokens, candidates=(), group_candidates=None, sources=("a",)):
    """A token cache of these triplets; candidates: (passage, score) of each group, one after the other."""
    passages, scores = zip(*candidates, strict=True) if candidates else ((), ())
    group_candidates = group_candidates or [0] * len(group_triplets)
    arrays = {
        "triplet_texts": np.array(triplet_texts),
        "group_triplets": np.array(group_triplets),
        "text_tokens": np.array(text_tokens),
        "text_is_query": np.isin(np.arange(len(text_tokens)), [row[0] for row in triplet_texts]),
        "group_source": np.arange(len(group_triplets)) % len(sources),
        "group_candidates": np.array(group_candidates),
        "candidate_passages": np.array(passages, dtype=int),
        "candidate_targets": np.array([[score, 0.0] for score in scores], dtype=np.float32).reshape(-1, 2),
    }
    return TokenCache.of(arrays, list(sources), {})


def named(batch):
    return np.column_stack([batch.texts[rows] for rows in (batch.query, batch.positive, batch.negative)]).tolist()


def test_step_batch_names_each_text_once_longest_first_and_keeps_triplets_and_candidates():
    triplet_texts = [[0, 1, 2], [0, 1, 3], [4, 5, 1], [6, 7, 2], [6, 7, 3]]
    candidates = [(1, 0.9), (2, 0.1), (3, 0.2), (5, 0.8), (1, 0.3), (7, 0.7), (2, 0.0), (3, 0.4)]
    cache = cache_of(triplet_texts, [2, 1, 2], [5, 30, 20, 10, 6, 40, 7, 8], candidates, [3, 2, 3])

    batch = step_batch(cache, np.array([2, 0]))

    assert batch.texts.tolist() == [1, 2, 3, 7, 6, 0]
    assert batch.is_query.tolist() == [False, False, False, False, True, True]
    assert batch.triplets.tolist() == [0, 1, 3, 4]
    assert named(batch) == [triplet_texts[row] for row in (0, 1, 3, 4)]
    assert batch.candidates.tolist() == [0, 1, 2, 5, 6, 7]
    assert batch.texts[batch.candidate_query].tolist() == [0, 0, 0, 6, 6, 6]
    assert batch.texts[batch.candidate_passage].tolist() == [1, 2, 3, 7, 2, 3]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
def test_shares_hold_every_text_once_in_equally_many_sub_forwards_within_the_budget(num_ranks):
    tokens = lengths(300)

    shares = share_texts(tokens, num_ranks, tokens_per_forward=2_048)

    assert sorted(np.concatenate([rows for share in shares for rows in share])) == list(range(300))
    assert len({len(share) for share in shares}) == 1
    assert max(padded_tokens(tokens, [rows]) for share in shares for rows in share) <= 2_048


@pytest.mark.parametrize(("num_ranks", "imbalance"), [(2, 1.03), (8, 1.06)])
def test_ranks_have_nearly_the_same_work(num_ranks, imbalance):
    for seed in range(20):
        tokens = lengths(300, seed)
        work = [padded_tokens(tokens, share) for share in share_texts(tokens, num_ranks, 2_048)]

        assert max(work) <= imbalance * np.mean(work)


def test_sorting_texts_saves_most_of_the_padding_of_their_given_order():
    tokens = np.random.default_rng(3).permutation(lengths(300))
    unsorted = padded_tokens(tokens, np.split(np.arange(300), 10))
    sorted_tokens = np.sort(tokens)[::-1]
    (share,) = share_texts(sorted_tokens, 1, tokens_per_forward=2_048)

    padding = padded_tokens(sorted_tokens, share) - tokens.sum()
    assert padding < 0.12 * (unsorted - tokens.sum())
    assert padding < 0.2 * tokens.sum()


def test_fewer_texts_than_ranks_leave_some_ranks_an_empty_sub_forward():
    shares = share_texts(np.array([9, 4]), num_ranks=3, tokens_per_forward=100)

    assert sorted(len(rows) for share in shares for rows in share) == [0, 1, 1]


def test_text_longer_than_the_budget_stands_alone():
    (share,) = share_texts(np.array([500, 10, 10]), num_ranks=1, tokens_per_forward=100)

    assert [rows.tolist() for rows in share] == [[0], [1, 2]]


def queries_of_n(num_groups, num_negatives, **settings):
    """A cache of queries with one positive and so many negatives, and the schedule of it."""
    rng, width = np.random.default_rng(0), num_negatives + 2
    first = width * np.arange(num_groups)
    triplets = [(query, query + 1, query + 2 + n) for query in first for n in range(num_negatives)]
    candidates = [(query + 1 + n, rng.random()) for query in first for n in range(num_negatives + 1)]
    tokens = rng.integers(4, 90, num_groups * width)
    sources = tuple(settings.pop("sources", ("a",)))
    counts = [num_negatives] * num_groups, [num_negatives + 1] * num_groups
    cache = cache_of(triplets, counts[0], tokens, candidates, counts[1], sources)
    return cache, Schedule(cache, TrainingConfig(**({"triplets_per_step": 14, "epochs": 2} | settings)))


def test_steps_have_the_asked_triplets_of_those_that_are_drawn_and_each_epoch_draws_anew():
    _, schedule = queries_of_n(30, 20, candidates_per_query=8, candidates="random")
    batches = [schedule.batch(step) for step in range(schedule.num_steps)]

    assert schedule.num_steps == 2 * 15
    assert {len(batch.triplets) for batch in batches} == {14}
    for batch in batches:
        assert (np.unique(batch.candidate_query, return_counts=True)[1] == 8).all()
        assert set(batch.texts) == set(batch.texts[np.concatenate([batch.candidate_query, batch.candidate_passage])])
        passages = set(zip(batch.candidate_query, batch.candidate_passage, strict=True))
        assert set(zip(batch.query, batch.negative, strict=True)) <= passages
        assert set(zip(batch.query, batch.positive, strict=True)) <= passages
    drawn = [{row for batch in half for row in batch.candidates} for half in (batches[:15], batches[15:])]
    assert 0 < len(drawn[0] & drawn[1]) < len(drawn[0])


def test_weights_say_how_often_an_epoch_sees_a_source_and_no_step_sees_a_query_twice():
    weights = {"a": 2.5, "b": 0.3, "c": 0.0}
    _, schedule = queries_of_n(400, 1, sources="abcd", source_weights=weights, epochs=20, length_window_steps=4)
    seen = np.zeros(400)
    for step in range(schedule.num_steps):
        queries = schedule.batch(step).texts[schedule.batch(step).query]
        assert len(set(queries)) == len(queries)
        seen[queries // 3] += 1

    assert (np.abs(seen.reshape(-1, 4).mean(axis=0) / 20 - [2.5, 0.3, 0, 1]) < 0.03).all()
    assert seen.reshape(-1, 4)[:, 0].min() >= 40, "2 times an epoch, at least"
    again = queries_of_n(400, 1, sources="abcd", source_weights=weights, epochs=20, length_window_steps=4)[1]
    assert all((again.batch(step).texts == schedule.batch(step).texts).all() for step in range(0, 600, 50))


def test_a_query_that_is_seen_more_often_is_seen_in_passes_evenly_apart():
    turns = turns_of_groups(np.array([6.0, 2.0, 3.0]), seed=0, epoch=0)

    assert [len(turns)] + [sum(group in turn for turn in turns) for group in range(3)] == [6, 6, 2, 3]
    assert all(len(set(turn)) == len(turn) for turn in turns)
    assert sum(1 in turn for turn in turns[:3]) == 1


def test_weights_of_one_change_nothing_but_the_order_and_weights_that_leave_no_step_are_refused():
    _, schedule = queries_of_n(40, 3, sources="ab", source_weights={"a": 1.0})
    groups = [query for step in range(schedule.num_steps // 2) for query in set(schedule.batch(step).query.tolist())]
    assert len(groups) == 40

    with pytest.raises(UserError, match="source_weights are so small that 2 epochs of 40 queries have no step"):
        queries_of_n(40, 3, source_weights={"a": 1e-9})


def test_plain_texts_are_planned_like_groups_of_one():
    cache, _ = queries_of_n(30, 2)
    config = {"data": "texts", "margin_mse": 0, "vectors": 1, "texts_per_step": 16, "epochs": 1}
    schedule = Schedule(cache, TrainingConfig(**config))
    batches = [schedule.batch(step) for step in range(schedule.num_steps)]

    assert sorted(text for batch in batches for text in batch.texts) == list(range(120))
    assert sorted(len(batch.texts) for batch in batches) == [8, *[16] * 7]
    assert all((np.diff(cache.text_tokens[batch.texts]) <= 0).all() for batch in batches)
    assert all((batch.is_query == (batch.texts % 4 == 0)).all() for batch in batches)
    assert all(len(rows) == 0 for batch in batches for rows in (batch.query, batch.triplets, batch.candidates))
