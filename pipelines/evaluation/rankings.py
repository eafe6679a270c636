"""What a system ranks for every query of an evaluation set, at every dimension that it has.

    encoder (student, untrained student, bi-encoder teacher)   exact search with its vectors, cut to each dimension
    cross-encoder teacher                                      reads BM25's best passages again
    BM25                                                       words

A system without vectors has the one dimension 0. A query's own document is never ranked for it: as many more are
searched as the query with most of them has.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.held_out import EvaluationSet
from pipelines.evaluation.metrics import DEPTH
from pipelines.search.bm25 import Bm25Index
from pipelines.search.encoders import Encoder, passage_blocks
from pipelines.search.exact import search
from pipelines.search.quantised import Quantisation, search_quantised
from pipelines.stage.progress import Progress
from pipelines.teachers.teacher import Teacher

Ranking = dict[str, list[str]]  # query id -> passage ids, best first
Rankings = dict[int, Ranking]  # dimension -> ranking

NO_VECTORS = 0
QUERIES_PER_BLOCK = 50


def dense_rankings(encoder: Encoder, dimensions: Sequence[int], evaluation_set: EvaluationSet) -> Rankings:
    """Each text is encoded once, at full dimension, and cut afterwards. Memory: one block of the corpus's vectors."""
    queries = encoder.encode(list(evaluation_set.queries.values()), "query")
    doing = f"evaluate: {evaluation_set.name}: encoding"
    passages = passage_blocks(encoder, list(evaluation_set.corpus.values()), doing)
    found = search(queries, passages, dimensions, _depth(evaluation_set))
    return {dimension: _named(positions, evaluation_set) for dimension, positions in found.items()}


def quantised_rankings(
    encoder: Encoder, kept_as: Quantisation, dimensions: Sequence[int], evaluation_set: EvaluationSet
) -> Rankings:
    """As dense_rankings, with the passages' vectors kept as int8 or single bits: see search/quantised.py."""
    queries = encoder.encode(list(evaluation_set.queries.values()), "query")
    passages = passage_blocks(
        encoder, list(evaluation_set.corpus.values()), f"evaluate: {evaluation_set.name}: {kept_as}"
    )
    found = search_quantised(queries, passages, dimensions, _depth(evaluation_set), kept_as)
    return {dimension: _named(positions, evaluation_set) for dimension, positions in found.items()}


def bm25_ranking(evaluation_set: EvaluationSet) -> Ranking:
    """BM25's best passages of each query."""
    index = Bm25Index(list(evaluation_set.corpus.values()))
    return _named(index.top(list(evaluation_set.queries.values()), _depth(evaluation_set)).positions, evaluation_set)


def reranked(teacher: Teacher, evaluation_set: EvaluationSet, first_stage: Ranking, depth: int) -> Ranking:
    """The best `depth` passages of each query in the teacher's order, the others after them in the first stage's.

    A pair that the teacher cannot score comes after those it can.
    """
    progress = Progress("evaluate: teacher reads", "queries", done=0, total=len(first_stage))
    ranking: Ranking = {}
    query_ids = list(first_stage)
    for start in range(0, len(query_ids), QUERIES_PER_BLOCK):
        block = query_ids[start : start + QUERIES_PER_BLOCK]
        pairs = [(query_id, passage_id) for query_id in block for passage_id in first_stage[query_id][:depth]]
        scores = teacher.score(
            [evaluation_set.queries[query_id] for query_id, _ in pairs],
            [evaluation_set.corpus[passage_id] for _, passage_id in pairs],
        ).score
        score_of = dict(zip(pairs, np.nan_to_num(scores, nan=-np.inf).tolist(), strict=True))
        for query_id in block:
            read, unread = first_stage[query_id][:depth], first_stage[query_id][depth:]
            # sorted is stable: equal scores keep the first stage's order
            ranking[query_id] = sorted(read, key=lambda passage: -score_of[query_id, passage]) + unread
        progress.advance(len(block))
    return ranking


def _depth(evaluation_set: EvaluationSet) -> int:
    """Passages to search for, so that DEPTH are left without a query's own."""
    return DEPTH + max(map(len, evaluation_set.own.values()), default=0)


def _named(positions: NDArray[np.int64], evaluation_set: EvaluationSet) -> Ranking:
    """The best DEPTH ids for positions in the set's order, (queries, K); -1 stands where there was no further one."""
    passage_ids, own = list(evaluation_set.corpus), evaluation_set.own
    ranking: Ranking = {}
    for query_id, best in zip(evaluation_set.queries, positions.tolist(), strict=True):
        found = (passage_ids[position] for position in best if position >= 0)
        ranking[query_id] = [passage_id for passage_id in found if passage_id not in own.get(query_id, ())][:DEPTH]
    return ranking
