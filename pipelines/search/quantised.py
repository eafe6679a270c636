"""Search over vectors kept as int8 or as single bits: what an index that is 4 or 32 times smaller still finds.

Passages are cut to each dimension, made unit length and quantised by sentence-transformers; queries stay float32.

    int8     each number in 256 steps between its smallest and largest in the first block of passages; scored by the
             dot product with the numbers that the steps stand for
    binary   the signs; the nearest RESCORED * k by Hamming distance from the query's own signs, of which the k best
             by the dot product of the query with the signs are kept (sentence-transformers' `rescore`)

Shape letters, this file only: Q = queries, P = passages of a block, D = dimension, K = passages kept per query.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.util.quantization import quantize_embeddings

from pipelines.search.exact import MAX_SCORES, cut, search

Quantisation = Literal["int8", "binary"]
Vectors = NDArray[np.float32]
Codes = NDArray[np.int8] | NDArray[np.uint8]
RESCORED = 2  # times k, as sentence-transformers' rescore_multiplier


def search_quantised(
    queries_QD: Vectors, passage_blocks: Iterable[Vectors], dimensions: Sequence[int], k: int, kept_as: Quantisation
) -> dict[int, NDArray[np.int64]]:
    """The k passages nearest to each query, at each dimension, as `exact.search` gives them.

    Memory: all passages, quantised, at every dimension.
    """
    corpora: dict[int, list[Codes]] = {dimension: [] for dimension in dimensions}
    ranges: dict[int, Vectors] = {}
    for block in passage_blocks:
        for dimension in corpora:
            units = _units(block, dimension)
            ranges.setdefault(dimension, np.stack([units.min(axis=0), units.max(axis=0)]))
            corpora[dimension].append(_quantised(units, kept_as, ranges[dimension]))
    queries = {dimension: _units(queries_QD, dimension) for dimension in corpora}
    if kept_as == "binary":
        return {dimension: _find_binary(queries[dimension], corpus, k) for dimension, corpus in corpora.items()}
    return {one: _find_int8(queries[one], corpus, ranges[one], k) for one, corpus in corpora.items()}


def _units(vectors: Vectors, dimension: int) -> Vectors:
    return np.asarray(cut(torch.from_numpy(vectors), dimension).numpy(), np.float32)


def _quantised(units_PD: Vectors, kept_as: Quantisation, ranges: Vectors) -> Codes:
    precision: Literal["int8", "ubinary"] = "int8" if kept_as == "int8" else "ubinary"
    codes: Codes = np.asarray(quantize_embeddings(units_PD, precision, ranges=ranges))
    return codes


def _find_int8(queries_QD: Vectors, corpus: list[Codes], ranges: Vectors, k: int) -> NDArray[np.int64]:
    """By the numbers in the middle of each step; `search` makes them unit length again, which they nearly are."""
    steps = (ranges[1] - ranges[0]) / 255
    blocks = (ranges[0] + (block.astype(np.float32) + 128.5) * steps for block in corpus)
    dimension = queries_QD.shape[1]
    return search(queries_QD, blocks, [dimension], k)[dimension]


def _find_binary(queries_QD: Vectors, corpus: list[Codes], k: int) -> NDArray[np.int64]:
    bits, dimension = np.concatenate(corpus), queries_QD.shape[1]
    ranked = []
    for query_D, nearest_K in zip(queries_QD, _nearest(queries_QD, corpus, RESCORED * k), strict=True):
        scores_K = _signs(bits[nearest_K], dimension) @ query_D
        ranked.append(nearest_K[np.argsort(-scores_K, kind="stable")[:k]])
    return np.stack(ranked)


def _nearest(queries_QD: Vectors, corpus: list[Codes], k: int) -> NDArray[np.int64]:
    """The k passages nearest by Hamming distance, of equal ones the first, in the order of their positions."""
    num_passages, dimension = sum(map(len, corpus)), queries_QD.shape[1]
    signs_QD, k = np.where(queries_QD > 0, 1, -1).astype(np.float32), min(k, num_passages)
    rows = max(1, MAX_SCORES // num_passages)
    found = []
    for first in range(0, len(signs_QD), rows):
        part = signs_QD[first : first + rows]
        # whole numbers, so exact: dimension - 2 * distance
        likeness_QP = np.concatenate([part @ _signs(block, dimension).T for block in corpus], axis=1).astype(np.int64)
        order_QP = np.arange(num_passages) - likeness_QP * num_passages
        found.append(np.sort(np.argpartition(order_QP, k - 1, axis=1)[:, :k], axis=1))
    return np.concatenate(found)


def _signs(bits: Codes, dimension: int) -> Vectors:
    """1 and -1 for packed bits."""
    return np.unpackbits(bits.view(np.uint8), axis=-1, count=dimension).astype(np.float32) * 2 - 1
