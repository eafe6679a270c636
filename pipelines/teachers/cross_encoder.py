"""Cross-encoder teacher: any sequence-classification model with one output reads query and passage together.

    score = the raw logit, unbounded     relevance = sigmoid(score), 0..1

The model is read directly: sentence-transformers' `predict` would apply an activation of its own.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipelines.checkpoints.inspect import check_checkpoint, prompts_of, several_outputs, teacher_name
from pipelines.stage.errors import UserError
from pipelines.teachers.batches import Floats, Integers, Rows, Scores, compute_rows, text_error, token_batches
from pipelines.teachers.loading import check_max_tokens, pick_batch_tokens, pick_device, pick_dtype, refusing

Columns = dict[str, list[list[int]]]  # input_ids, attention_mask, ...: one list of numbers per pair


class CrossEncoderTeacher:
    """Scores pairs with a model from a local folder (`pipelines.teachers.resolve` gets it there)."""

    kind = "cross_encoder"

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
            max_tokens: of query, passage and special tokens together; the passage is cut first.
            query_prompt, passage_prompt: put in front of each text; None for nothing.
            batch_tokens: tokens of a batch with padding; None for the device's default.
        """
        self.folder, self.max_tokens, self.dtype = folder, max_tokens, dtype
        self.prompts = prompts_of(folder, "cross_encoder", query_prompt, passage_prompt)
        self.device = pick_device(device)
        self.batch_tokens = pick_batch_tokens(batch_tokens, self.device)
        self.model, self.tokenizer = _load(folder, pick_dtype(dtype), trust_remote_code)
        check_max_tokens(self.model, max_tokens, folder)
        self.num_embeddings = next(self.model.get_input_embeddings().parameters()).shape[0]
        nn.Module.to(self.model, self.device)

    @cached_property
    def name(self) -> str:
        """`basename@12hex`, as `teacher_name` gives it without loading the model."""
        return teacher_name(
            self.folder,
            "cross_encoder",
            max_tokens=self.max_tokens,
            query_prompt=self.prompts.query,
            passage_prompt=self.prompts.passage,
            dtype=self.dtype,
        )

    def score(self, queries: list[str], passages: list[str]) -> Scores:
        """Raw logits of the pairs (queries[i], passages[i]), in order; a pair that cannot be scored has its error.

        Raises:
            UserError: the teacher itself is broken: it cannot score a plain pair either.
        """
        if len(queries) != len(passages):
            raise ValueError(f"score got {len(queries)} queries and {len(passages)} passages, expected pairs")
        return self._score(queries, passages, check_model=self._check_model)

    def _score(self, queries: list[str], passages: list[str], check_model: Callable[[], None]) -> Scores:
        unreadable = [
            text_error(query) or text_error(passage) for query, passage in zip(queries, passages, strict=True)
        ]
        columns, tokens_cut = self._tokenize(
            ["" if why else self.prompts.query + query for query, why in zip(queries, unreadable, strict=True)],
            ["" if why else self.prompts.passage + passage for passage, why in zip(passages, unreadable, strict=True)],
        )
        batches = token_batches([len(ids) for ids in columns["input_ids"]], self.batch_tokens)
        outcome = compute_rows(batches, len(queries), 1, lambda rows: self._logits(columns, rows), check_model)
        error = [why or failure for why, failure in zip(unreadable, outcome.error, strict=True)]
        score = np.where([why is not None for why in error], np.float32(np.nan), outcome.values[:, 0])
        return Scores(score, torch.from_numpy(score).sigmoid().numpy(), tokens_cut, error)

    def _tokenize(self, queries: list[str], passages: list[str]) -> tuple[Columns, Integers]:
        """Each pair's tokens within max_tokens, and how many were cut. Only pairs that are too long are read twice."""
        tokens_cut = np.zeros(len(queries), dtype=np.int32)
        if not queries:
            return {"input_ids": []}, tokens_cut
        encoded = self.tokenizer(queries, passages, verbose=False)
        columns: Columns = dict(encoded)
        for row, ids in enumerate(columns["input_ids"]):
            excess = len(ids) - self.max_tokens
            if excess > 0:
                passage_tokens = encoded.sequence_ids(row).count(1)
                strategy = "only_second" if passage_tokens > excess else "longest_first"
                pair = self.tokenizer(queries[row], passages[row], truncation=strategy, max_length=self.max_tokens)
                tokens_cut[row] = len(ids) - len(pair["input_ids"])
                for key, values in pair.items():
                    columns[key][row] = values
        return columns, tokens_cut

    @torch.inference_mode()
    def _logits(self, columns: Columns, rows: Rows) -> Floats:
        batch = {key: [values[row] for row in rows] for key, values in columns.items()}
        padded = self.tokenizer.pad(batch, return_tensors="pt", verbose=False)
        if padded["input_ids"].max() >= self.num_embeddings:  # on a GPU this would break the whole process
            raise ValueError(
                f"token id {padded['input_ids'].max()} is beyond the model's {self.num_embeddings} embeddings"
            )
        logits: Floats = self.model(**padded.to(self.device)).logits.float().cpu().numpy()
        return logits

    def _check_model(self) -> None:
        """Score a plain pair: tells a poisoned pair from a broken teacher."""
        control = self._score(["what is a cat"], ["a cat is a small animal"], check_model=lambda: None)
        if control.error[0]:
            raise UserError(
                f"teacher {self.folder} cannot score a plain pair of sentences: {control.error[0]}; its weights are "
                f"damaged or too large for dtype {self.dtype}: fetch them again, or set dtype to float32"
            )


def _load(folder: str, dtype: torch.dtype, trust_remote_code: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    check_checkpoint(folder, "transformers import AutoModelForSequenceClassification")
    with refusing(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code, use_fast=True
        )
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    _check_head(folder, model, sorted(loaded["missing_keys"]))
    _check_tokenizer(folder, tokenizer)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def _check_head(folder: str, model: PreTrainedModel, missing: list[str]) -> None:
    """One output, and every weight from the file: a head that is made at random gives random scores."""
    if missing:
        raise UserError(
            f"{folder} is no cross-encoder: its weights lack {', '.join(missing[:4])} of {type(model).__name__}, which "
            f"would be random; expected a sequence-classification model with one output, such as "
            f'BAAI/bge-reranker-v2-m3 (for a sentence-transformers encoder set score.teacher_kind to "bi_encoder")'
        )
    if model.config.num_labels != 1:
        raise several_outputs(folder, [str(label) for label in (model.config.id2label or {}).values()])


def _check_tokenizer(folder: str, tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise UserError(
            f"{folder} has a {type(tokenizer).__name__} without tokenizer.json; save it once as a fast tokenizer"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{folder}: its tokenizer has no padding token, so pairs cannot be batched; set pad_token and save it"
        )
