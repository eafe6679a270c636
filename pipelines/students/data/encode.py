"""Texts to token ids, batch by batch and in order, wherever the batches are encoded: imports neither torch nor Ray.

frozen(tokenizer, max_tokens) -> Encoder: pickles, and gives any process the same ids
EncodeAll: batches of texts -> their ids in the same order; here (`encode_here`) or in many processes (on Ray)
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from pipelines.students.data.token_cache import ARRAYS, Array

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Encoded(NamedTuple):
    """The token ids of some texts, one after the other, special tokens included."""

    token_ids: Array
    text_tokens: Array  # of each text
    num_cut: int  # texts that were longer


@dataclass(frozen=True)
class Encoder:
    """A tokenizer as it is when all is set: its JSON, from which every process makes its own."""

    tokenizer: str

    @cached_property
    def _made(self) -> Tokenizer:
        return Tokenizer.from_str(self.tokenizer)

    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer}

    def encode(self, texts: list[str]) -> Encoded:
        """Encoded on all cores by the tokenizer's own threads, which TOKENIZERS_PARALLELISM=false turns off."""
        encodings = self._made.encode_batch_fast(texts)  # no offsets into the text: a fifth less work
        ids = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), ARRAYS["text_tokens"], len(ids))
        num_cut = sum(bool(encoding.overflowing) for encoding in encodings)
        return Encoded(np.concatenate([np.asarray(one, ARRAYS["token_ids"]) for one in ids]), lengths, num_cut)


EncodeAll = Callable[[Encoder, Iterable[list[str]]], Iterator[Encoded]]


def frozen(tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> Encoder:
    """The tokenizer as `tokenizer(texts, truncation=True, max_length=max_tokens)` uses it."""
    tokenizer(["a text"], truncation=True, max_length=max_tokens)  # sets truncation, and padding off
    backend: Tokenizer = tokenizer.backend_tokenizer  # transformers 5 has fast ones only
    return Encoder(backend.to_str())


def encode_here(encoder: Encoder, batches: Iterable[list[str]]) -> Iterator[Encoded]:
    """Batch after batch in this process."""
    return map(encoder.encode, batches)
