"""What a system ranks for every query of an evaluation set, at every dimension that it has.

    encoder (student, untrained student, bi-encoder teacher)   exact search with its vectors, cut to each dimension
    cross-encoder teacher                                      reads BM25's best passages again
    BM25                                                       words

A system without vectors has the one dimension 0.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from pipelines.evaluation.evaluation_sets import EvaluationSet
from pipelines.evaluation.metrics import DEPTH
from pipelines.search.bm25 import Bm25Index
from pipelines.search.exact import search
from pipelines.stage.progress import Progress
from pipelines.teachers.teacher import Teacher

Ranking = dict[str, list[str]]  # query id -> passage ids, best first
Rankings = dict[int, Ranking]  # dimension -> ranking

NO_VECTORS = 0
TEXTS_PER_BLOCK = 2_000
QUERIES_PER_BLOCK = 50


class Encoder(Protocol):
    """Texts to float32 vectors of shape (texts, D)."""

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]: ...


class StudentEncoder:
    """A sentence-transformers model with its own prompts; each call sorts its texts by length."""

    def __init__(self, model: SentenceTransformer, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]:
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        vectors = encode(texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_tensor=True)
        return np.asarray(vectors.float().cpu().numpy(), np.float32)


def dense_rankings(encoder: Encoder, evaluation_set: EvaluationSet, dimensions: Sequence[int]) -> Rankings:
    """Each text is encoded once, at full dimension, and cut afterwards. Memory: one block of the corpus's vectors."""
    query_ids, passage_ids = list(evaluation_set.queries), list(evaluation_set.corpus)
    queries = encoder.encode(list(evaluation_set.queries.values()), "query")
    found = search(queries, _passage_vectors(encoder, evaluation_set), dimensions, DEPTH)
    return {
        dimension: {
            query_id: [passage_ids[position] for position in best]
            for query_id, best in zip(query_ids, positions.tolist(), strict=True)
        }
        for dimension, positions in found.items()
    }


def bm25_ranking(evaluation_set: EvaluationSet) -> Ranking:
    """BM25's best passages of each query."""
    passage_ids = list(evaluation_set.corpus)
    best = Bm25Index(list(evaluation_set.corpus.values())).top(evaluation_set.queries.values(), DEPTH)
    return {
        query_id: [passage_ids[position] for position in positions if position >= 0]
        for query_id, positions in zip(evaluation_set.queries, best.positions.tolist(), strict=True)
    }


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


def _passage_vectors(encoder: Encoder, evaluation_set: EvaluationSet) -> Iterator[NDArray[np.float32]]:
    texts = list(evaluation_set.corpus.values())
    progress = Progress(f"evaluate: {evaluation_set.name}: encoding", "passages", done=0, total=len(texts))
    for start in range(0, len(texts), TEXTS_PER_BLOCK):
        block = texts[start : start + TEXTS_PER_BLOCK]
        yield encoder.encode(block, "passage")
        progress.advance(len(block))
