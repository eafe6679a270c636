"""The arithmetic of a forecast, by hand; no clock."""

import pytest

from pipelines.scoring.forecast import CHUNK_S, END_S, ROW_S, Forecast, Speed, Work, forecast, makespan

SPEED = Speed(begin_s=10.0, plan_s=1.0, pass_s=2.0, load_s=5.0, tokens=1_000.0)


@pytest.mark.parametrize(
    ("seconds", "actors", "expected"),
    [
        ([3.0, 3.0, 3.0, 3.0], 2, 6.0),
        ([3.0, 3.0, 3.0, 3.0, 1.0], 2, 7.0),  # the fifth begins when the fourth ends
        ([5.0, 1.0, 1.0, 1.0], 2, 5.0),
        ([2.0], 64, 2.0),
        ([], 4, 0.0),
    ],
)
def test_each_chunk_goes_to_the_first_free_actor(seconds, actors, expected):
    assert makespan(seconds, actors) == expected


def test_a_run_begins_reads_each_chunk_and_ends():
    work = Work(rows=[100, 100], read=[150, 50])

    found = forecast([work], 1, SPEED, tokens_per_read=20.0)

    reading = (150 + 50) * 20 / 1_000
    assert found.actors == 1
    assert found.seconds == pytest.approx(10 + 2 + 5 + 1 + 2 * CHUNK_S + 200 * ROW_S + reading + END_S)


def test_more_actors_take_less_time_and_never_less_money():
    work = Work(rows=[1_000] * 16, read=[10_000] * 16)

    two, four, eight = (forecast([work], actors, SPEED, 100.0) for actors in (2, 4, 8))

    began = 10 + 2 + 5 + 1 + END_S
    assert [one.seconds - began for one in (four, eight)] == pytest.approx(
        [(two.seconds - began) / 2, (two.seconds - began) / 4]
    )
    assert two.cost(1.0) < four.cost(1.0) < eight.cost(1.0)


def test_the_price_is_of_one_actor_and_hour():
    assert Forecast(actors=4, seconds=1_800).cost(2.5) == 5.0
    assert Forecast(actors=4, seconds=1_800).cost(0) == 0.0


def test_a_pass_with_nothing_left_costs_nothing():
    nothing, some = Work([], []), Work([10], [10])

    assert forecast([nothing, some], 2, SPEED, 1.0) == forecast([some], 2, SPEED, 1.0)
    assert forecast([nothing], 2, SPEED, 1.0, checked_rows=1_000).seconds == 10 + END_S


def test_where_all_scores_come_from_vectors_no_teacher_is_waited_for():
    found = forecast([Work([1_000], [0])], 2, SPEED, 0.0)

    assert found.seconds == pytest.approx(10 + 2 + 1 + CHUNK_S + 1_000 * ROW_S + END_S)


def test_a_new_engine_scores_some_rows_before():
    work = Work(rows=[100], read=[150])

    more = forecast([work], 2, SPEED, 20.0, checked_rows=1_000).seconds - forecast([work], 2, SPEED, 20.0).seconds

    assert more == pytest.approx(2 + 5 + 1_500 * 20 / 1_000)
