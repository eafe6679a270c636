"""Lists of owners, against Python's own."""

import numpy as np
import pytest

from pipelines.mining.lists import Lists

OWNERS, VALUES = np.array([3, 1, 3, 3, 1, 3]), np.array([b"x", b"b", b"a", b"x", b"a", b"m"])
OF_EACH = [[], [b"a", b"b"], [], [b"a", b"m", b"x"], []]


@pytest.fixture
def lists():
    return Lists.of(OWNERS, VALUES, 5)


def each(lists):
    return [lists[owner].tolist() for owner in range(len(lists))]


def test_each_owner_has_its_different_values_ascending(lists):
    assert each(lists) == OF_EACH
    assert lists.owners().tolist() == [1, 1, 3, 3, 3]
    assert [lists.start(owner) for owner in range(5)] == [0, 0, 2, 2, 5]
    assert each(Lists.none(2)) == [[], []]


def test_some_of_the_values_or_of_the_owners(lists):
    assert each(lists.where(np.array([True, False, False, True, True]))) == [[], [b"a"], [], [b"m", b"x"], []]
    assert each(lists.within(1, 4)) == OF_EACH[1:4]
    assert each(lists.only(np.array([0, 3]))) == [[], OF_EACH[3]]
