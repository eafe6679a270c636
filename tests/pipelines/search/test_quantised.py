"""Quantised search against the same arithmetic written out in numpy."""

import numpy as np
import pytest

from pipelines.search.quantised import RESCORED, search_quantised

SEEDED = np.random.default_rng(5)
QUERIES, PASSAGES = (SEEDED.standard_normal((n, 16)).astype(np.float32) for n in (7, 90))


def units(vectors, dimension):
    cut = vectors[:, :dimension].astype(np.float64)
    return cut / np.linalg.norm(cut, axis=1, keepdims=True)


def blocks(size):
    return [PASSAGES[start : start + size] for start in range(0, len(PASSAGES), size)]


@pytest.mark.parametrize("dimension", [16, 12])  # 12 bits are no whole number of bytes
def test_binary_is_the_nearest_by_hamming_in_the_order_of_the_query_with_their_signs(dimension):
    queries, signs = units(QUERIES, dimension), units(PASSAGES, dimension) > 0

    found = search_quantised(QUERIES, blocks(40), [16, dimension], 10, "binary")[dimension]

    for query, ranked in zip(queries, found, strict=True):
        hamming = ((query > 0) != signs).sum(axis=1)
        nearest = np.sort(np.argsort(hamming, kind="stable")[: RESCORED * 10])
        scores = np.round(np.where(signs[nearest], 1.0, -1.0) @ query, 6)
        assert ranked.tolist() == nearest[np.argsort(-scores, kind="stable")][:10].tolist()


def test_int8_knows_each_number_to_half_a_step_of_the_first_blocks_range():
    found = search_quantised(QUERIES, blocks(40), [8], 90, "int8")[8]

    queries, passages = units(QUERIES, 8), units(PASSAGES, 8)
    low, high = passages[:40].min(axis=0), passages[:40].max(axis=0)
    steps = (high - low) / 255
    kept = low + (np.clip(np.floor((passages - low) / steps), 0, 255) + 0.5) * steps
    assert np.abs(kept[:40] - passages[:40]).max() <= steps.max() / 2 + 1e-9
    scores = queries @ (kept / np.linalg.norm(kept, axis=1, keepdims=True)).T
    exact = queries @ passages.T
    for query, ranked in enumerate(found):
        assert (np.diff(scores[query][ranked]) <= 1e-3).all()  # by the kept numbers, but for float32's edges of steps
        assert np.abs(scores[query] - exact[query])[:40].max() < 0.02
