"""The batch plan: every group once an epoch, the same for any number of ranks, and little padding."""

import numpy as np
import pytest

from pipelines.students.data.plan import padded_tokens, plan_epoch, share_texts, step_batch

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


def test_step_batch_names_each_text_once_longest_first_and_keeps_triplets():
    group_offsets = np.array([0, 2, 3, 5])
    triplet_texts = np.array([[0, 1, 2], [0, 1, 3], [4, 5, 1], [6, 7, 2], [6, 7, 3]])
    text_tokens = np.array([5, 30, 20, 10, 6, 40, 7, 8])

    batch = step_batch(np.array([0, 2]), group_offsets, triplet_texts, text_tokens)

    assert batch.texts.tolist() == [1, 2, 3, 7, 6, 0]
    assert batch.triplets.tolist() == [0, 1, 3, 4]
    named = np.column_stack([batch.texts[batch.query], batch.texts[batch.positive], batch.texts[batch.negative]])
    assert named.tolist() == triplet_texts[[0, 1, 3, 4]].tolist()
    assert batch.texts[batch.is_query].tolist() == [6, 0]


def test_step_batch_names_each_candidate_of_a_query_once():
    triplet_texts = np.array([[0, 1, 2], [0, 1, 3], [0, 3, 2]])

    batch = step_batch(np.array([0]), np.array([0, 3]), triplet_texts, np.array([2, 9, 8, 7]))

    query, passage = batch.texts[batch.candidate_query], batch.texts[batch.candidate_passage]
    assert sorted(zip(query, passage, strict=True)) == [(0, 1), (0, 2), (0, 3)]
    assert [triplet_texts[c // 2][1 + c % 2] for c in batch.candidates] == passage.tolist()


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
