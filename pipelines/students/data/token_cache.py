"""The token cache as training reads it: a curated version's training split as flat arrays on the local disk.

    TokenCache.open(folder) -> rows of token ids, padded, for any texts; triplets as text indices; targets; vectors

tokenise.py builds it. A text is kept once per kind (query or passage: their prompts differ) however many triplets
share it. A group is a query with all its triplets; its candidates are its passages, each once, with the teacher's
score. Plain texts have neither. The arrays are memory maps: what is read is what is in memory.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUMMARY, SOURCES = "summary.json", "sources.json"
TARGETS = ["positive_score", "negative_score", "positive_relevance", "negative_relevance"]
CANDIDATE_TARGETS = ["score", "relevance"]
GROUPS_PER_SUM = 500_000

ARRAYS: dict[str, np.dtype[Any]] = {
    "token_ids": np.dtype(np.int32),  # of all texts, one after the other, special tokens included
    "text_tokens": np.dtype(np.int32),  # (texts,)
    "triplet_texts": np.dtype(np.int32),  # (triplets, 3): query, positive, negative as text indices
    "targets": np.dtype(np.float32),  # (triplets, 4): TARGETS
    "group_triplets": np.dtype(np.int32),  # (groups,)
    "vectors": np.dtype(np.float32),  # (texts, width of the teacher's vectors); empty without a vectors version
    "text_is_query": np.dtype(np.bool_),  # (texts,)
    "triplet_ids": np.dtype("V16"),  # (triplets,): the bytes whose hex digits are the id
    "group_source": np.dtype(np.int32),  # (groups,): position in `sources`
    "group_candidates": np.dtype(np.int32),  # (groups,)
    "candidate_passages": np.dtype(np.int32),  # (candidates,): text indices, a group's in the order it names them
    "candidate_targets": np.dtype(np.float32),  # (candidates, 2): CANDIDATE_TARGETS
}

Array = NDArray[Any]


@dataclass(frozen=True)
class TokenCache:
    """What the training reads; `summary` counts what it holds and has the sha256 of all of it, its `digest`."""

    arrays: dict[str, Array]
    text_offsets: Array  # text t has the token ids from text_offsets[t] to text_offsets[t + 1]
    group_offsets: Array  # group g has the triplets from group_offsets[g] to group_offsets[g + 1]
    candidate_offsets: Array  # group g has the candidates from candidate_offsets[g] to candidate_offsets[g + 1]
    sources: list[str]
    summary: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "TokenCache":
        """A finished cache. Raises FileNotFoundError when the folder holds none."""
        summary = json.loads((folder / SUMMARY).read_text())
        arrays = {name: _read_array(folder / name, dtype) for name, dtype in ARRAYS.items()}
        arrays["triplet_texts"] = arrays["triplet_texts"].reshape(-1, 3)
        arrays["targets"] = arrays["targets"].reshape(-1, len(TARGETS))
        arrays["candidate_targets"] = arrays["candidate_targets"].reshape(-1, len(CANDIDATE_TARGETS))
        arrays["vectors"] = arrays["vectors"].reshape(-1, summary["vector_width"] or 1)
        return cls.of(arrays, json.loads((folder / SOURCES).read_text()), summary)

    @classmethod
    def of(cls, arrays: dict[str, Array], sources: list[str], summary: dict[str, Any]) -> "TokenCache":
        """The arrays of ARRAYS, shaped as it says."""
        counts = ("text_tokens", "group_triplets", "group_candidates")
        texts, groups, candidates = (_offsets(arrays[name]) for name in counts)
        return cls(arrays, texts, groups, candidates, sources, summary)

    @property
    def text_tokens(self) -> Array:
        return self.arrays["text_tokens"]

    def group_tokens(self) -> Array:
        """Mean length of the texts of each group's triplets, int64."""
        means = []
        for first in range(0, len(self.group_offsets) - 1, GROUPS_PER_SUM):
            offsets = self.group_offsets[first : first + GROUPS_PER_SUM + 1]
            triplet_texts = self.arrays["triplet_texts"][offsets[0] : offsets[-1]]
            triplet_tokens = self.text_tokens[triplet_texts].sum(axis=1, dtype=np.int64)
            group_tokens = np.add.reduceat(triplet_tokens, offsets[:-1] - offsets[0])
            means.append(group_tokens // (3 * np.diff(offsets)))
        return np.concatenate(means)

    def padded(self, texts: Array, pad_token_id: int) -> tuple[Array, Array]:
        """Token ids and attention mask of some texts, int64, padded on the right to the longest."""
        tokens = self.text_tokens[texts]
        column = np.arange(tokens.max())
        mask = column < tokens[:, None]
        where = np.minimum(self.text_offsets[texts][:, None] + column, len(self.arrays["token_ids"]) - 1)
        return np.where(mask, self.arrays["token_ids"][where], pad_token_id).astype(np.int64), mask.astype(np.int64)

    def end_to_end(self, texts: Array) -> tuple[Array, Array]:
        """Token ids of some texts, one after the other, int64, and the tokens of each text."""
        tokens = self.text_tokens[texts].astype(np.int64)
        before = np.cumsum(tokens) - tokens
        where = np.repeat(self.text_offsets[texts] - before, tokens) + np.arange(tokens.sum())
        return self.arrays["token_ids"][where].astype(np.int64), tokens


def _read_array(path: Path, dtype: np.dtype[Any]) -> Array:
    """A file as a memory map; a plain empty array where it is empty, which cannot be mapped."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


def _offsets(counts: Array) -> Array:
    """Where each run starts, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
