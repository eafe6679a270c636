"""Bi-encoder teacher: any sentence-transformers model encodes queries and passages apart, each text once a call.

    score = cosine of query and passage, -1..1     relevance = (1 + cosine) / 2, 0..1

Texts pass the model's own modules, so vectors equal its `encode(normalize_embeddings=True)`.
"""

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device, truncate_embeddings
from torch.nn.functional import normalize
from transformers import AutoModel, PreTrainedTokenizerBase

from pipelines.checkpoints.inspect import check_checkpoint, prompts_of, teacher_name
from pipelines.stage.errors import UserError
from pipelines.teachers.batches import Floats, Integers, Rows, Scores, compute_rows, text_error, token_batches
from pipelines.teachers.loading import check_max_tokens, pick_batch_tokens, pick_device, pick_dtype, refusing

TextKind = Literal["query", "passage"]

UNUSED_WEIGHTS = ("pooler.",)  # a head of the encoder that sentence-transformers does not read


class BiEncoderTeacher:
    """Encodes and scores with a model from a local folder (`pipelines.teachers.resolve` gets it there)."""

    kind = "bi_encoder"

    def __init__(
        self,
        folder: str,
        *,
        max_tokens: int,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        dtype: str = "float32",
        device: str | None = None,
        batch_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Load the model, or refuse it with a UserError that says what was found and what to do.

        Args:
            max_tokens: of one text with prompt and special tokens.
            query_prompt, passage_prompt: put in front of each text; None for the model's own, "" for nothing.
            batch_tokens: tokens of a batch with padding; None for the device's default.
        """
        self.folder, self.max_tokens, self.dtype = folder, max_tokens, dtype
        self.device = pick_device(device)
        self.batch_tokens = pick_batch_tokens(batch_tokens, self.device)
        self.model = _load(folder, self.device, pick_dtype(dtype), trust_remote_code)
        self.prompts = prompts_of(folder, "bi_encoder", query_prompt, passage_prompt)
        if self.model.transformers_model is not None:
            check_max_tokens(self.model.transformers_model, max_tokens, folder)
        self.model.max_seq_length = max_tokens

    @cached_property
    def name(self) -> str:
        """`basename@12hex`, as `teacher_name` gives it without loading the model."""
        return teacher_name(
            self.folder,
            "bi_encoder",
            max_tokens=self.max_tokens,
            query_prompt=self.prompts.query,
            passage_prompt=self.prompts.passage,
            dtype=self.dtype,
        )

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

    def embed(self, texts: list[str], kind: TextKind) -> tuple[Floats, Integers, list[str | None]]:
        """`encode`, and of each text the tokens that were cut and why it cannot be encoded, if so."""
        return self._encode(texts, kind, self._check_model)

    def score(self, queries: list[str], passages: list[str]) -> Scores:
        """Cosines of the pairs (queries[i], passages[i]), in order; a pair that cannot be scored has its error.

        Raises:
            UserError: the teacher itself is broken: it cannot encode a plain sentence either.
        """
        if len(queries) != len(passages):
            raise ValueError(f"score got {len(queries)} queries and {len(passages)} passages, expected pairs")
        query_vectors, query_cut, query_error = self._encode(queries, "query", self._check_model)
        passage_vectors, passage_cut, passage_error = self._encode(passages, "passage", self._check_model)
        score = (query_vectors * passage_vectors).sum(axis=1).clip(-1, 1)
        error = [left or right for left, right in zip(query_error, passage_error, strict=True)]
        return Scores(score, (1 + score) / 2, query_cut + passage_cut, error)

    def _encode(
        self, texts: list[str], kind: TextKind, check_model: Callable[[], None]
    ) -> tuple[Floats, Integers, list[str | None]]:
        """Vectors, tokens cut and errors of the texts; each different text passes the model once."""
        unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        unreadable = [text_error(text) for text in unique]
        readable = ["" if why else text for text, why in zip(unique, unreadable, strict=True)]
        num_tokens = self._num_tokens(readable, kind)
        limit = self._max_tokens(kind)
        batches = token_batches(np.minimum(num_tokens, limit), self.batch_tokens)
        outcome = compute_rows(
            batches, len(unique), self.dimension, lambda rows: self._vectors(readable, rows, kind), check_model
        )
        error = [why or failure for why, failure in zip(unreadable, outcome.error, strict=True)]
        outcome.values[[why is not None for why in error]] = np.nan
        rows = np.array([unique[text] for text in texts], dtype=np.int64)
        tokens_cut = np.maximum(num_tokens - limit, 0).astype(np.int32)
        return outcome.values[rows], tokens_cut[rows], [error[row] for row in rows]

    def _num_tokens(self, texts: list[str], kind: TextKind) -> Integers:
        prompt = getattr(self.prompts, kind)
        if not texts:
            return np.zeros(0, dtype=np.int32)
        encoded = self.model.tokenizer([prompt + text for text in texts], verbose=False)
        return np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int32)

    def _max_tokens(self, kind: TextKind) -> int:
        """max_tokens, or less where the model limits its queries or documents itself."""
        own = getattr(self.model[0], f"{_task(kind)}_length", None)
        return min(self.max_tokens, own or self.max_tokens)

    @torch.inference_mode()
    def _vectors(self, texts: list[str], rows: Rows, kind: TextKind) -> Floats:
        prompt, task = getattr(self.prompts, kind), _task(kind)
        features = self.model.preprocess([texts[row] for row in rows], prompt=prompt, task=task)
        vectors = self.model(batch_to_device(features, self.device), task=task)["sentence_embedding"]
        if self.model.truncate_dim is not None:
            vectors = truncate_embeddings(vectors, self.model.truncate_dim)
        unit: Floats = normalize(vectors.float(), dim=1).cpu().numpy()
        return unit

    def _check_model(self) -> None:
        """Encode a plain sentence: tells a poisoned text from a broken teacher."""
        _, _, error = self._encode(["a cat is a small animal"], "passage", check_model=lambda: None)
        if error[0]:
            raise UserError(
                f"teacher {self.folder} cannot encode a plain sentence: {error[0]}; its weights are damaged or too "
                f"large for dtype {self.dtype}: fetch them again, or set dtype to float32"
            )


def _task(kind: TextKind) -> str:
    """What sentence-transformers calls the kind of text."""
    return "query" if kind == "query" else "document"


def _load(folder: str, device: torch.device, dtype: torch.dtype, trust_remote_code: bool) -> SentenceTransformer:
    check_checkpoint(folder, "sentence_transformers import SentenceTransformer")
    _check_model_type(Path(folder))
    with refusing(folder):
        _check_weights(folder, trust_remote_code)
        model = SentenceTransformer(
            folder,
            device=str(device),
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    if not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        raise UserError(
            f"{folder} reads no text with a transformers tokenizer; expected a text encoder with a Transformer module"
        )
    return model.eval()


def _check_model_type(root: Path) -> None:
    """Without modules.json sentence-transformers would guess a pooling, and it would convert a cross-encoder."""
    if not (root / "modules.json").exists():
        raise UserError(
            f"{root} is no sentence-transformers model: it has no modules.json, so its pooling is unknown; save it "
            f'once with SentenceTransformer.save, or set score.teacher_kind to "cross_encoder" if it is a re-ranker'
        )
    settings = root / "config_sentence_transformers.json"
    model_type = json.loads(settings.read_text(encoding="utf-8")).get("model_type") if settings.exists() else None
    if model_type not in (None, "SentenceTransformer"):
        raise UserError(
            f"{root} is a {model_type} model, expected a SentenceTransformer; set score.teacher_kind to what fits"
        )


def _check_weights(folder: str, trust_remote_code: bool) -> None:
    """Refuse an encoder with weights that its file lacks: they would be random, and sentence-transformers is silent."""
    first = json.loads((Path(folder) / "modules.json").read_text(encoding="utf-8"))[0]
    encoder = Path(folder) / first["path"]
    if not (encoder / "config.json").exists() or not first["type"].endswith("Transformer"):
        return
    _, loaded = AutoModel.from_pretrained(
        str(encoder),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    missing = sorted(key for key in loaded["missing_keys"] if not key.startswith(UNUSED_WEIGHTS))
    if missing:
        raise UserError(
            f"{folder}: its weights lack {', '.join(missing[:4])}, which would be random; fetch the model again"
        )
