"""Bi-encoder teacher: any sentence-transformers model encodes queries and passages apart, each text once a call.

    score = cosine of query and passage, -1..1     relevance = (1 + cosine) / 2, 0..1

Texts pass the model's own modules, so vectors equal its `encode(normalize_embeddings=True)`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device, truncate_embeddings
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipelines.checkpoints.inspect import check_model_type, modules
from pipelines.checkpoints.load import load_encoder, refusing
from pipelines.stage.errors import UserError
from pipelines.teachers.batches import Floats, Integers, Rows, Scores, compute_rows, parts, read_ahead
from pipelines.teachers.teacher import Teacher
from pipelines.texts.ids import encoding_error
from pipelines.texts.token_batches import token_batches
from pipelines.unpadded.forward import can_unpad, compile_layers, embed

TextKind = Literal["query", "passage"]

TEXTS_AT_ONCE = 4_096
"""Texts, neighbours by their characters, that a teacher without padding reads together."""


class BiEncoderTeacher(Teacher):
    """Encodes and scores; max_tokens are those of one text with prompt and special tokens."""

    model: SentenceTransformer

    def load(self, dtype: torch.dtype) -> PreTrainedModel | None:
        check_model_type(self.folder)
        _check_weights(self.folder, self.config.trust_remote_code)
        with refusing(self.folder):
            self.model = SentenceTransformer(
                str(self.folder),
                device=str(self.device),
                local_files_only=True,
                trust_remote_code=self.config.trust_remote_code,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            ).eval()
        if not isinstance(self.model.tokenizer, PreTrainedTokenizerBase):
            raise UserError(
                f"{self.folder} reads no text with a transformers tokenizer; expected a text encoder with a "
                "Transformer module"
            )
        self.model.max_seq_length = self.config.max_tokens
        encoder = self.model.transformers_model
        self.is_unpadded = self.device.type == "cuda" and can_unpad(self.model)
        if self.is_unpadded and self.config.compiled and encoder is not None:
            compile_layers(encoder)
        return encoder

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        dimension = self.model.get_embedding_dimension()
        assert dimension is not None, "sentence-transformers knows no dimension for this model"
        return dimension

    def encode(self, texts: list[str], kind: TextKind) -> Floats:
        """Unit vectors of shape (texts, dimension), in order; NaN for a text that cannot be encoded.

        Raises:
            UserError: the teacher itself is broken: it cannot encode a plain sentence either.
        """
        return self.embed(texts, kind)[0]

    def score_pairs(self, queries: list[str], passages: list[str], check_model: Callable[[], None]) -> Scores:
        query_vectors, query_cut, query_error = self.embed(queries, "query", check_model)
        passage_vectors, passage_cut, passage_error = self.embed(passages, "passage", check_model)
        score = (query_vectors * passage_vectors).sum(axis=1).clip(-1, 1)
        error = [left or right for left, right in zip(query_error, passage_error, strict=True)]
        return Scores(score, (1 + score) / 2, query_cut + passage_cut, error)

    def embed(
        self, texts: list[str], kind: TextKind, check_model: Callable[[], None] | None = None
    ) -> tuple[Floats, Integers, list[str | None]]:
        """`encode`, and of each text the tokens that were cut and why it cannot be encoded, if so.

        Each different text passes the model once.
        """
        unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        unreadable = [encoding_error(text) for text in unique]
        readable = ["" if why else text for text, why in zip(unique, unreadable, strict=True)]
        check = check_model or self.check_model
        if self.is_unpadded:
            read = _Read(self, readable, kind)
            tokens_cut, batches, compute = read.tokens_cut, read.batches(), partial(self._vectors_of_ids, read.ids)
        else:
            num_tokens, tokens_cut = self.count_tokens(readable, kind)
            batches = iter(token_batches(num_tokens, self.batch_tokens))
            compute = partial(self._vectors, readable, kind)
        outcome = compute_rows(batches, len(unique), self.dimension, compute, check)
        error = [why or failure for why, failure in zip(unreadable, outcome.error, strict=True)]
        outcome.values[[why is not None for why in error]] = np.nan
        rows = np.array([unique[text] for text in texts], dtype=np.int64)
        return outcome.values[rows], tokens_cut[rows], [error[row] for row in rows]

    def count_tokens(self, texts: list[str], kind: TextKind) -> tuple[Integers, Integers]:
        """Of each text, which is readable, the tokens that `embed` reads, and those that it cuts."""
        prompt, limit = getattr(self.prompts, kind), self.limit(kind)
        encoded = self.model.tokenizer([prompt + text for text in texts], verbose=False)["input_ids"] if texts else []
        num_tokens = np.array([len(ids) for ids in encoded], dtype=np.int32)
        return np.minimum(num_tokens, limit), np.maximum(num_tokens - limit, 0)

    def limit(self, kind: TextKind) -> int:
        """Most tokens of a text that are read."""
        own = getattr(self.model[0], f"{_task(kind)}_length", None)  # a model's own, of queries or of documents
        return min(self.config.max_tokens, own or self.config.max_tokens)

    def features(self, texts: list[str], kind: TextKind) -> dict[str, Any]:
        """Some texts as the model reads them, padded."""
        features: dict[str, Any] = self.model.preprocess(texts, prompt=getattr(self.prompts, kind), task=_task(kind))
        return features

    @torch.inference_mode()
    def _vectors(self, texts: list[str], kind: TextKind, rows: Rows) -> Tensor:
        features = batch_to_device(self.features([texts[row] for row in rows], kind), self.device)
        return self._unit(self.model(features, task=_task(kind))["sentence_embedding"])

    @torch.inference_mode()
    def _vectors_of_ids(self, ids: dict[int, Integers], rows: Rows) -> Tensor:
        """Of texts that stand longest first."""
        of_rows = [ids[row] for row in rows.tolist()]
        return self._unit(embed(self.model, np.concatenate(of_rows), np.array([len(own) for own in of_rows])))

    def _unit(self, vectors: Tensor) -> Tensor:
        if self.model.truncate_dim is not None:
            vectors = truncate_embeddings(vectors, self.model.truncate_dim)
        return normalize(vectors.float(), dim=1)

    def check_model(self) -> None:
        _, _, error = self.embed(["a cat is a small animal"], "passage", check_model=lambda: None)
        self.refuse("encode a plain sentence", error[0])


class _Read:
    """Texts as token ids, each read once; a GPU computes some while the next are read."""

    def __init__(self, teacher: BiEncoderTeacher, texts: list[str], kind: TextKind) -> None:
        self._teacher, self._texts, self._kind = teacher, texts, kind
        self.ids: dict[int, Integers] = {}  # of each text, cut, special tokens included
        self.tokens_cut = np.zeros(len(texts), dtype=np.int32)

    def batches(self) -> Iterator[Rows]:
        """Numbers of texts, the longest first; when they come, they have been read."""
        longest_first = np.argsort([-len(text) for text in self._texts], kind="stable")
        of_parts = [longest_first[part] for part in parts(len(self._texts), TEXTS_AT_ONCE)]
        for rows, num_tokens in zip(of_parts, read_ahead(self._read, of_parts), strict=True):
            for batch in token_batches(num_tokens, self._teacher.batch_tokens):
                yield rows[batch]

    def _read(self, rows: Rows) -> Integers:
        """The tokens of each of some texts."""
        features = self._teacher.features([self._texts[row] for row in rows], self._kind)
        is_token = features["attention_mask"].bool()
        num_tokens: Integers = is_token.sum(dim=1).numpy().astype(np.int32)
        ids = np.split(features["input_ids"][is_token].numpy(), np.cumsum(num_tokens)[:-1])
        self.ids.update(zip(rows.tolist(), ids, strict=True))
        may_be_cut = rows[num_tokens >= self._teacher.limit(self._kind)]
        _, self.tokens_cut[may_be_cut] = self._teacher.count_tokens(
            [self._texts[row] for row in may_be_cut], self._kind
        )
        return num_tokens


def _task(kind: TextKind) -> str:
    """What sentence-transformers calls the kind of text."""
    return "query" if kind == "query" else "document"


def _check_weights(folder: Path, trust_remote_code: bool) -> None:
    """Refuse an encoder with weights that its file lacks: they would be random, and sentence-transformers is silent."""
    first = modules(folder)[0]
    encoder = folder / first.path
    if (encoder / "config.json").exists() and first.kind.endswith("Transformer"):
        load_encoder(encoder, trust_remote_code=trust_remote_code)
