"""Cross-encoder teacher: any sequence-classification model with one output reads query and passage together.

    score = the raw logit, unbounded     relevance = sigmoid(score), 0..1

The model is read directly: sentence-transformers' `predict` would apply an activation of its own.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Encoding
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipelines.checkpoints.inspect import several_outputs
from pipelines.checkpoints.load import refuse_random_weights, refusing
from pipelines.stage.errors import UserError
from pipelines.teachers.batches import Integers, Rows, Scores, compute_rows, parts, read_ahead
from pipelines.teachers.first_token import read_first_token_only
from pipelines.teachers.teacher import Teacher
from pipelines.texts.ids import encoding_error
from pipelines.texts.token_batches import token_batches
from pipelines.unpadded.classifier import can_unpad_pairs, encoder_of, logits
from pipelines.unpadded.forward import compile_layers

PAIRS_AT_ONCE = {"cpu": None, "cuda": 4_096}
"""Pairs that are tokenised, then sorted by length: a GPU computes some while the next are. On a CPU, all of a call."""


class _Read(NamedTuple):
    """Pairs as the model reads them."""

    columns: dict[str, Integers]  # input_ids and what else its tokenizer gives, of all pairs, end to end
    num_tokens: Integers  # of each pair
    ends: Rows  # of each pair in the columns
    tokens_cut: Integers
    unreadable: list[str | None]  # why a pair cannot be read at all

    def columns_of(self, rows: Rows) -> dict[str, list[Integers]]:
        """Of each of some pairs."""
        places = [slice(end - num, end) for end, num in zip(self.ends[rows], self.num_tokens[rows], strict=True)]
        return {key: [column[place] for place in places] for key, column in self.columns.items()}


class CrossEncoderTeacher(Teacher):
    """max_tokens are those of query, passage and special tokens together; the passage is cut first."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def load(self, dtype: torch.dtype) -> PreTrainedModel:
        options = {"local_files_only": True, "trust_remote_code": self.config.trust_remote_code}
        with refusing(self.folder):
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder, use_fast=True, **options)
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                self.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
        _check_head(self.folder, model, sorted(loaded["missing_keys"]))
        _check_tokenizer(self.folder, self.tokenizer)
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self.tokenizer.pad_token_id
        self.model = model.eval()
        read_first_token_only(self.model)
        self.pairs_at_once = PAIRS_AT_ONCE[self.device.type]
        self.is_unpadded = self.device.type == "cuda" and can_unpad_pairs(self.model)
        self.num_embeddings = next(self.model.get_input_embeddings().parameters()).shape[0]
        nn.Module.to(self.model, self.device)
        if self.is_unpadded and self.config.compiled:
            compile_layers(encoder_of(self.model))
        return self.model

    def score_pairs(self, queries: list[str], passages: list[str], check_model: Callable[[], None]) -> Scores:
        slices = parts(len(queries), self.pairs_at_once)
        read = list[_Read]()

        def batches() -> Iterator[Rows]:
            of_slices = read_ahead(lambda part: self._read(queries[part], passages[part]), slices)
            for part, one in zip(slices, of_slices, strict=True):
                read.append(one)
                for rows in token_batches(one.num_tokens, self.batch_tokens):
                    yield part.start + rows

        def compute(rows: Rows) -> Tensor:
            number = bisect_right(slices, rows[0], key=lambda part: part.start) - 1
            return self._logits(read[number].columns_of(rows - slices[number].start))

        outcome = compute_rows(batches(), len(queries), 1, compute, check_model)
        unreadable = [why for part in read for why in part.unreadable]
        tokens_cut = np.concatenate([part.tokens_cut for part in read] or [np.zeros(0, dtype=np.int32)])
        error = [why or failure for why, failure in zip(unreadable, outcome.error, strict=True)]
        score = np.where([why is not None for why in error], np.float32(np.nan), outcome.values[:, 0])
        return Scores(score, torch.from_numpy(score).sigmoid().numpy(), tokens_cut, error)

    def count_tokens(self, queries: list[str], passages: list[str]) -> tuple[Integers, Integers]:
        """Of each pair the tokens that `score` reads, and those that it cuts."""
        read = self._read(queries, passages)
        return read.num_tokens, read.tokens_cut

    def _read(self, queries: list[str], passages: list[str]) -> _Read:
        """The tokens of each pair with its prompts, within max_tokens; a pair that cannot be read is empty."""
        unreadable = [
            encoding_error(query) or encoding_error(passage) for query, passage in zip(queries, passages, strict=True)
        ]
        encodings, tokens_cut = self._tokenize(
            ["" if why else self.prompts.query + query for query, why in zip(queries, unreadable, strict=True)],
            ["" if why else self.prompts.passage + passage for passage, why in zip(passages, unreadable, strict=True)],
        )
        num_tokens = np.fromiter(map(len, encodings), np.int32, len(encodings))
        columns = {"input_ids": (encoding.ids for encoding in encodings)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            columns["token_type_ids"] = (encoding.type_ids for encoding in encodings)
        end_to_end = {
            key: np.fromiter(chain.from_iterable(values), np.int32, num_tokens.sum()) for key, values in columns.items()
        }
        return _Read(end_to_end, num_tokens, np.cumsum(num_tokens, dtype=np.int64), tokens_cut, unreadable)

    def _tokenize(self, queries: list[str], passages: list[str]) -> tuple[list[Encoding], Integers]:
        """Each pair, and how many tokens were cut. Only pairs that are too long are read twice."""
        max_tokens, tokens_cut = self.config.max_tokens, np.zeros(len(queries), dtype=np.int32)
        self.tokenizer("a", "b")  # sets truncation and padding off, for the call that is a third faster than its own
        pairs = list(zip(queries, passages, strict=True))
        encodings: list[Encoding] = self.tokenizer.backend_tokenizer.encode_batch_fast(pairs)
        for row, encoding in enumerate(encodings):
            excess = len(encoding) - max_tokens
            if excess > 0:
                passage_tokens = encoding.sequence_ids.count(1)
                strategy = "only_second" if passage_tokens > excess else "longest_first"
                cut = self.tokenizer(queries[row], passages[row], truncation=strategy, max_length=max_tokens)
                (encodings[row],) = cut.encodings
                tokens_cut[row] = len(encoding) - len(encodings[row])
        return encodings, tokens_cut

    @torch.inference_mode()
    def _logits(self, columns: dict[str, list[Integers]]) -> Tensor:
        """Of pairs that stand longest first."""
        token_ids = np.concatenate(columns["input_ids"])
        if (largest := token_ids.max()) >= self.num_embeddings:  # a GPU's process would break by it
            raise ValueError(f"token id {largest} is beyond the model's {self.num_embeddings} embeddings")
        if self.is_unpadded:
            types = columns.get("token_type_ids")
            lengths = np.array([len(ids) for ids in columns["input_ids"]])
            return logits(self.model, token_ids, None if types is None else np.concatenate(types), lengths)
        batch = {key: [values.tolist() for values in column] for key, column in columns.items()}
        padded = self.tokenizer.pad(batch, return_tensors="pt", verbose=False)
        outputs: Tensor = self.model(**padded.to(self.device)).logits
        return outputs

    def check_model(self) -> None:
        control = self.score_pairs(["what is a cat"], ["a cat is a small animal"], check_model=lambda: None)
        self.refuse("score a plain pair of sentences", control.error[0])


def _check_head(folder: Path, model: PreTrainedModel, missing: list[str]) -> None:
    """One output, and every weight from the file: a head that is made at random gives random scores."""
    expected = (
        "expected a sequence-classification model with one output, such as BAAI/bge-reranker-v2-m3 (for a "
        'sentence-transformers encoder set score.teacher_kind to "bi_encoder")'
    )
    refuse_random_weights(folder, model, missing, expected)
    if model.config.num_labels != 1:
        raise several_outputs(folder, [str(label) for label in (model.config.id2label or {}).values()])


def _check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise UserError(
            f"{folder} has a {type(tokenizer).__name__} without tokenizer.json; save it once as a fast tokenizer"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{folder}: its tokenizer has no padding token, so pairs cannot be batched; set pad_token and save it"
        )
