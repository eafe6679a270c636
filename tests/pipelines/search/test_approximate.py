"""The approximate index finds what it says it finds, and looks at more lists where more is asked of it."""

import builtins

import numpy as np
import pytest

from pipelines.search.approximate import ApproximateIndex
from pipelines.search.exact import nearest
from pipelines.stage.errors import UserError
from tests.dense_indexes import unit

WIDTH, K = 16, 20
SEEDED = np.random.default_rng(1)
CENTRES = SEEDED.standard_normal((50, WIDTH))
PASSAGES = unit(CENTRES[SEEDED.integers(50, size=8_000)] + 0.3 * SEEDED.standard_normal((8_000, WIDTH)))
QUERIES = unit(CENTRES[SEEDED.integers(50, size=200)] + 0.3 * SEEDED.standard_normal((200, WIDTH)))


def blocks():
    yield from np.array_split(PASSAGES, 7)


@pytest.fixture(scope="module")
def index():
    return ApproximateIndex(blocks, len(PASSAGES), WIDTH)


def share_found(index, queries):
    exact = nearest(queries, blocks(), [WIDTH], K)[WIDTH].positions
    found = index.top(queries, K).positions
    return np.mean([len(set(ours) & set(theirs)) / K for ours, theirs in zip(found, exact, strict=True)])


def test_it_finds_as_much_as_is_asked_and_says_so(index, capsys):
    found, looked_at = [], []
    for recall in (0.3, 0.8, 0.99):
        found.append(index.reach(recall, QUERIES[:100], K))
        looked_at.append(index._index.nprobe)
        assert found[-1] >= recall
        assert found[-1] == pytest.approx(share_found(index, QUERIES[:100]))
        assert share_found(index, QUERIES[100:]) == pytest.approx(found[-1], abs=0.05)
    assert looked_at == sorted(looked_at)
    assert looked_at[0] < looked_at[-1] < index.num_lists
    assert f"finds {found[-1]:.3f} of the 20 nearest of 100 queries" in capsys.readouterr().err


def test_cosines_are_right_to_three_digits_and_stand_best_first(index):
    found = index.top(QUERIES, K)
    cosines = np.take_along_axis(QUERIES @ PASSAGES.T, found.positions, axis=1)

    assert np.allclose(found.cosines, cosines, atol=1e-3)
    assert (np.diff(found.cosines, axis=1) <= 0).all()


def test_without_faiss_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"asks for faiss, which is not there: pip install faiss-cpu"):
        ApproximateIndex(blocks, 10, WIDTH)
