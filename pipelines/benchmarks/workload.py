"""The texts that a bench reads: given pairs, or made-up ones of realistic lengths, and a model for them.

    pairs or lengths  --Workload-->  a token cache for our loop, rows for the field's trainer: the same texts

It needs torch, transformers and sentence-transformers alone: no tables, no Ray.
"""

import json
import re
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, BertTokenizer

from pipelines.stage.errors import UserError, describe
from pipelines.students.data.token_cache import ARRAYS, TARGETS, Array, TokenCache
from pipelines.students.heads import mean_pooling

Precision = Literal["float32", "bf16"]
PRECISIONS: list[Precision] = ["float32", "bf16"]  # where none is asked for

MEDIAN_TOKENS = {"query": 12, "passage": 75}
"""Of made-up texts, log-normal around it: as 20,000 real pairs of questions, titles and abstracts are."""
SPREAD = {"query": 0.45, "passage": 0.7}
LONGEST = {"query": 64, "passage": 400}  # before they are cut
VOCABULARY = 30_000
MINILM = {"hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 1536}
SHAPES = {
    "minilm": ("bert", MINILM | {"num_hidden_layers": 6}),
    "xlm-r-large": (
        "xlm-roberta",
        {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "type_vocab_size": 2,  # the tokenizer here tells query and passage apart
            "max_position_embeddings": 514,
        },
    ),
    "modernbert-base": ("modernbert", {}),
}
"""Of cross-encoders: family, and what is not its own default."""


class Pairs(NamedTuple):
    """Queries and the passage of each."""

    queries: list[str]
    passages: list[str]


def read_pairs(path: Path) -> Pairs:
    """Pairs of a file with `query` and `positive`: Parquet, or else JSON Lines.

    Raises:
        UserError: it cannot be read, holds other rows or too few.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq  # JSON Lines do without

            rows = pq.read_table(path, columns=["query", "positive"]).to_pylist()
        else:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = Pairs([row["query"] for row in rows], [row["positive"] for row in rows])
        if not all(isinstance(text, str) for text in chain(*pairs)):
            raise TypeError("some are no texts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as pairs ({describe(error)}); expected texts, query and positive, in JSON Lines or "
            "Parquet"
        ) from error
    if len(rows) < 100:
        raise UserError(f"{path} has {len(rows)} pairs, expected at least 100")
    return pairs


def made_up_pairs(num_pairs: int, seed: int = 0) -> Pairs:
    """Texts of made-up words, log-normal in length: only lengths matter to speed."""
    random = np.random.default_rng(seed)

    def texts(kind: str) -> list[str]:
        drawn = random.lognormal(np.log(MEDIAN_TOKENS[kind]), SPREAD[kind], num_pairs)
        lengths = np.clip(drawn, 3, LONGEST[kind]).astype(int)
        return [" ".join(f"w{word}" for word in random.zipf(1.3, length) % VOCABULARY) for length in lengths]

    return Pairs(texts("query"), texts("passage"))


def load_model(folder: Path | None, pairs: Pairs, max_tokens: int) -> SentenceTransformer:
    """The model of a folder, or one of three layers of MiniLM's shape with random weights; mean pooling, no dropout."""
    if folder is not None:
        try:
            model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(f"--model {folder} cannot be loaded ({error}); expected a folder with a model") from error
    else:
        model = random_model(MINILM, pairs)
    model.max_seq_length = max_tokens
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def random_model(shape: dict[str, int], pairs: Pairs) -> SentenceTransformer:
    """A BERT of a shape whose tokens are the commonest words of the texts."""
    tokenizer = _tokenizer(pairs)
    config = AutoConfig.for_model("bert", vocab_size=VOCABULARY + 522, **shape)
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    encoder.register_module("pooler", None)
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, model_kwargs={"add_pooling_layer": False})
    return SentenceTransformer(modules=[transformer, *mean_pooling(shape["hidden_size"])], device="cpu")


def random_cross_encoder(shape: tuple[str, dict[str, int]], pairs: Pairs, folder: Path) -> Path:
    """A cross-encoder of a shape with random weights, saved in a folder, which is returned."""
    (family, sizes), tokenizer = shape, _tokenizer(pairs)
    specials = {"pad_token_id": tokenizer.pad_token_id, "num_labels": 1, "vocab_size": VOCABULARY + 522}
    config = AutoConfig.for_model(family, **sizes, **specials)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(pairs: Pairs) -> BertTokenizer:
    """One whose tokens are the commonest words of the texts."""
    words = Counter(
        word for text in (*pairs.queries, *pairs.passages) for word in re.findall(r"\w+|[^\w\s]", text.lower())
    )
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(word for word, _ in words.most_common(VOCABULARY))]
    return BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, model_max_length=512)


def draw(pairs: Pairs, num_queries: int, negatives: int, seed: int = 0) -> tuple[Array, Array]:
    """Numbers of some queries, and of each the numbers of its passages: its own, then others at random.

    Returns shapes (queries,) and (queries, 1 + negatives).
    Raises:
        UserError: there are fewer pairs than that takes.
    """
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(pairs.queries))[:num_queries]
    if len(drawn) < num_queries or len(pairs.passages) <= negatives:
        raise UserError(f"there are {len(pairs.queries)} pairs, expected at least {max(num_queries, negatives + 1)}")
    steps = 1 + np.array([random.choice(len(pairs.passages) - 1, negatives, replace=False) for _ in drawn])
    return drawn, np.hstack([drawn[:, None], (drawn[:, None] + steps) % len(pairs.passages)])


class Workload:
    """Queries with a positive and some negatives each, drawn at random; margins too, for only speed is asked."""

    def __init__(self, pairs: Pairs, model: SentenceTransformer, *, num_queries: int, negatives: int, seed: int = 0):
        self.negatives, self.num_queries = negatives, num_queries
        drawn, self.passages_of = draw(pairs, num_queries, negatives, seed)
        self.queries = [pairs.queries[number] for number in drawn]
        self.passages = pairs.passages
        self.margins = np.random.default_rng(seed).random((num_queries, negatives), dtype=np.float32)
        self._tokenizer, self._max_tokens = model.tokenizer, model.max_seq_length

    def rows(self, *, flat: bool) -> dict[str, list[Any]]:
        """Columns for the field's trainer: a triplet a row, or a query with all its negatives a row."""
        texts = [[self.passages[number] for number in row] for row in self.passages_of]
        if not flat:
            columns = {f"negative_{n}": [row[1 + n] for row in texts] for n in range(self.negatives)}
            positives = [row[0] for row in texts]
            return {"query": self.queries, "positive": positives, **columns, "label": self.margins.tolist()}
        each = range(self.negatives)
        return {
            "query": [query for query in self.queries for _ in each],
            "positive": [row[0] for row in texts for _ in each],
            "negative": [row[1 + n] for row in texts for n in each],
            "label": self.margins.ravel().tolist(),
        }

    def cache(self) -> TokenCache:
        """The same texts as our loop reads them, each once."""
        used, passage_of = np.unique(self.passages_of, return_inverse=True)
        passage_of = passage_of.reshape(self.passages_of.shape) + self.num_queries
        texts = [*self.queries, *(self.passages[number] for number in used)]
        encoded = self._tokenizer(texts, truncation=True, max_length=self._max_tokens)["input_ids"]
        queries = np.repeat(np.arange(self.num_queries), self.negatives)
        positives = np.repeat(passage_of[:, 0], self.negatives)
        targets = np.zeros((len(queries), len(TARGETS)), np.float32)
        targets[:, TARGETS.index("positive_relevance")] = self.margins.ravel()
        given: dict[str, Array] = {
            "token_ids": np.concatenate(encoded),
            "text_tokens": np.array([len(ids) for ids in encoded]),
            "triplet_texts": np.stack([queries, positives, passage_of[:, 1:].ravel()], axis=1),
            "targets": targets,
            "group_triplets": np.full(self.num_queries, self.negatives),
            "vectors": np.empty((len(texts), 0)),
            "text_is_query": np.arange(len(texts)) < self.num_queries,
            "triplet_ids": np.zeros(len(queries), "V16"),
            "group_source": np.zeros(self.num_queries),
            "group_candidates": np.full(self.num_queries, 1 + self.negatives),
            "candidate_passages": passage_of.ravel(),
            "candidate_targets": np.zeros((passage_of.size, 2)),  # no term here asks for them
        }
        arrays = {name: given[name].astype(dtype) for name, dtype in ARRAYS.items()}
        return TokenCache.of(arrays, ["bench"], {"vector_width": 0})
