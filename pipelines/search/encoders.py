"""Encoders: texts in, vectors out; what exact search needs beside the positions it gives back.

texts  --Encoder.encode-->  float32 vectors        a corpus  --passage_blocks-->  its vectors, a block at a time
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.inspect import PASSAGE_PROMPTS
from pipelines.search.stored_vectors import read_vectors
from pipelines.stage.progress import Progress
from pipelines.storage import TableVersion
from pipelines.teachers.bi_encoder import BiEncoderTeacher
from pipelines.texts.ids import text_id
from pipelines.texts.token_batches import token_batches
from pipelines.unpadded.forward import can_unpad, embed

FIRST_BLOCK, PASSAGES_PER_BLOCK = 125, 2_000  # each twice the last, so that a rate is known early
TOKENS_PER_FORWARD = {"cpu": 8_192, "cuda": 65_536}


class Encoder(Protocol):
    """Texts to float32 vectors of shape (texts, D)."""

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]: ...


class StudentEncoder:
    """A sentence-transformers model with its own prompts, as its `encode` would; each call sorts its texts by length.

    Without padding where the family allows it, and never more than TOKENS_PER_FORWARD tokens at a time beside a single
    longer text: the memory is bounded for texts of any length.
    """

    def __init__(self, model: SentenceTransformer, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]:
        if can_unpad(self.model):
            return self._encode_unpadded(texts, self._prompt(kind))
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        vectors = encode(texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_tensor=True)
        return np.asarray(vectors.float().cpu().numpy(), np.float32)

    @torch.inference_mode()
    def _encode_unpadded(self, texts: list[str], prompt: str | None) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.model.get_embedding_dimension() or 0), np.float32)
        longest_first = np.argsort([-len(text) for text in texts], kind="stable")
        self.model.eval()
        for start in range(0, len(texts), self.batch_size):
            rows = longest_first[start : start + self.batch_size]
            features = self.model.preprocess([texts[row] for row in rows], prompt=prompt)
            is_token, token_ids = features["attention_mask"].bool().numpy(), features["input_ids"].numpy()
            lengths = is_token.sum(axis=1)
            for part in token_batches(lengths, TOKENS_PER_FORWARD[self.model.device.type]):
                embedded = embed(self.model, token_ids[part][is_token[part]], lengths[part])
                vectors[rows[part]] = embedded.float().cpu().numpy()
        return vectors

    def _prompt(self, kind: Literal["query", "passage"]) -> str | None:
        """What `encode_query` and `encode_document` put before a text."""
        prompts = self.model.prompts
        names = [name for name in (("query",) if kind == "query" else PASSAGE_PROMPTS) if name in prompts]
        return prompts.get(names[0] if names else self.model.default_prompt_name or "")


class KeptVectors:
    """An encoder that encodes each list of texts once: what several searches over the same vectors share.

    Memory: all vectors that it made.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._kept: dict[tuple[str, tuple[str, ...]], NDArray[np.float32]] = {}

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]:
        key = kind, tuple(texts)
        if key not in self._kept:
            self._kept[key] = self._encoder.encode(texts, kind)
        return self._kept[key]


class StoredVectors:
    """A bi-encoder teacher that encodes only the texts whose vectors no scoring run has stored."""

    def __init__(self, teacher: BiEncoderTeacher, vectors: TableVersion | None) -> None:
        self.teacher, self.vectors = teacher, vectors

    def encode(self, texts: list[str], kind: Literal["query", "passage"], /) -> NDArray[np.float32]:
        if self.vectors is None:
            return self.teacher.encode(texts, kind)
        encoded = read_vectors(self.vectors, self.teacher.name, kind, list(map(text_id, texts)), self.teacher.dimension)
        missing = np.flatnonzero(np.isnan(encoded[:, 0]))
        if len(missing):
            encoded[missing] = self.teacher.encode([texts[row] for row in missing], kind)
        return encoded


def passage_blocks(encoder: Encoder, passages: Sequence[str], doing: str) -> Iterator[NDArray[np.float32]]:
    """The passages' vectors in their order, a block at a time; progress is told as `doing`."""
    progress = Progress(doing, "passages", done=0, total=len(passages))
    start, size = 0, FIRST_BLOCK
    while start < len(passages):
        block = list(passages[start : start + size])
        yield encoder.encode(block, "passage")
        progress.advance(len(block))
        start, size = start + size, min(2 * size, PASSAGES_PER_BLOCK)
