"""The token cache: a curated version's training split, tokenised once, as flat arrays on the local disk.

    build_token_cache(curated@v, tokenizer, ...) -> TokenCache -> rows of token ids, padded, for any texts

A text is kept once per kind (query or passage: their prompts differ) however many triplets share it. Groups are
queries in ascending id, triplets within a group in ascending id, texts in the order in which triplets first name them:
the same curated rows give the same bytes however their files are cut. Memory: the table streams by query range;
24 bytes for each unique passage stay while the cache is built, and the arrays are read back as memory maps.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion

SUMMARY = "summary.json"
TARGETS = ["positive_score", "negative_score", "positive_relevance", "negative_relevance"]
TEXTS_PER_BATCH = 2_000  # tokenised at once: bounds the memory of their encodings
ROWS_PER_READ = 200_000
VECTORS_PER_READ = 50_000
TRIPLETS_PER_SUM = 5_000_000

ARRAYS: dict[str, np.dtype[Any]] = {
    "token_ids": np.dtype(np.int32),  # of all texts, one after the other, special tokens included
    "text_tokens": np.dtype(np.int32),  # (texts,)
    "triplet_texts": np.dtype(np.int32),  # (triplets, 3): query, positive, negative as text indices
    "targets": np.dtype(np.float32),  # (triplets, 4): TARGETS
    "group_triplets": np.dtype(np.int32),  # (groups,)
    "vectors": np.dtype(np.float32),  # (texts, width of the teacher's vectors); empty without a vectors version
}

Array = NDArray[Any]
Ids = NDArray[np.bytes_]  # text ids as 16 raw bytes each


@dataclass(frozen=True)
class TokenCache:
    """What the training reads; `summary` says what it holds, with the digest of all of it."""

    arrays: dict[str, Array]
    text_offsets: Array
    group_offsets: Array
    summary: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "TokenCache":
        """A finished cache. Raises FileNotFoundError when the folder holds none."""
        summary = json.loads((folder / SUMMARY).read_text())
        arrays = {name: _read_array(folder / name, dtype) for name, dtype in ARRAYS.items()}
        arrays["triplet_texts"] = arrays["triplet_texts"].reshape(-1, 3)
        arrays["targets"] = arrays["targets"].reshape(-1, len(TARGETS))
        arrays["vectors"] = arrays["vectors"].reshape(-1, summary["vector_width"] or 1)
        return cls(arrays, _offsets(arrays["text_tokens"]), _offsets(arrays["group_triplets"]), summary)

    @property
    def text_tokens(self) -> Array:
        return self.arrays["text_tokens"]

    @property
    def digest(self) -> str:
        """sha256 over token ids, lengths, groups, targets and vectors: exactly what the training sees."""
        return str(self.summary["digest"])

    def group_tokens(self) -> Array:
        """Mean length of the texts of each group's triplets, int64."""
        sums = np.zeros(len(self.arrays["group_triplets"]), dtype=np.int64)
        triplet_texts = self.arrays["triplet_texts"]
        for start in range(0, len(triplet_texts), TRIPLETS_PER_SUM):
            tokens = self.text_tokens[triplet_texts[start : start + TRIPLETS_PER_SUM]].sum(axis=1, dtype=np.int64)
            triplets = np.arange(start, start + len(tokens))
            np.add.at(sums, np.searchsorted(self.group_offsets, triplets, side="right") - 1, tokens)
        means: Array = sums // (3 * self.arrays["group_triplets"].astype(np.int64))
        return means

    def padded(self, texts: Array, pad_token_id: int) -> tuple[Array, Array]:
        """Token ids and attention mask of some texts, int64, padded on the right to the longest."""
        tokens = self.text_tokens[texts]
        column = np.arange(tokens.max())
        mask = column < tokens[:, None]
        where = np.minimum(self.text_offsets[texts][:, None] + column, len(self.arrays["token_ids"]) - 1)
        return np.where(mask, self.arrays["token_ids"][where], pad_token_id).astype(np.int64), mask.astype(np.int64)


def build_token_cache(
    folder: Path,
    curated: TableVersion,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    query_prompt: str = "",
    passage_prompt: str = "",
    vectors: TableVersion | None = None,
    vectors_teacher: str | None = None,
) -> TokenCache:
    """Tokenise the training split of `curated` into `folder`; a finished cache there is opened as it is.

    Prompts stand before the text as in `SentenceTransformer.encode(prompt=...)`. The folder must belong to these
    arguments alone. Raises UserError when there is nothing to train on or a text has no teacher vector.
    """
    if not (folder / SUMMARY).exists():
        folder.mkdir(parents=True, exist_ok=True)
        tokenise = _Tokeniser(tokenizer, max_tokens, {"query": query_prompt, "passage": passage_prompt})
        with ExitStack() as stack:
            files = {name: stack.enter_context((folder / name).open("wb")) for name in ARRAYS}
            builder = _Builder(files, tokenise, _passage_ids(curated))
            for rows in _training_rows(curated):
                builder.add(rows)
        if not builder.summary["triplets"]:
            raise UserError(f"{curated} has no triplet in its train split, expected some; curate again")
        width = 0 if vectors is None else _write_vectors(folder / "vectors", vectors, vectors_teacher, builder)
        _finish(folder, builder.summary | {"vector_width": width})
    return TokenCache.open(folder)


def _training_rows(curated: TableVersion) -> Iterator[pl.DataFrame]:
    """The training split in frames of whole queries, ascending by query and triplet; empty frames left out."""
    for frame in curated.read_by_query_range(ROWS_PER_READ):
        rows = frame.filter(pl.col("split") == "train").sort("query_id", "triplet_id")
        if len(rows):
            yield rows


def _passage_ids(curated: TableVersion) -> Ids:
    """The ids of all passages of the training split, each once, sorted: a first pass over two columns."""
    found = [np.empty(0, dtype="S16")]
    for query_range in curated.query_ranges(10 * ROWS_PER_READ):
        in_range = query_range.contains("query_id") & (pl.col("split") == "train")
        frame = curated.scan().filter(in_range).select("positive_id", "negative_id").collect()
        found.append(np.unique([_raw_ids(frame["positive_id"]), _raw_ids(frame["negative_id"])]))
    return np.unique(np.concatenate(found))


class _Tokeniser:
    """Texts to token ids, each cut at `max_tokens`, its kind's prompt before it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int, prompts: dict[str, str]) -> None:
        self._tokenizer, self._max_tokens, self._prompts = tokenizer, max_tokens, prompts

    def __call__(self, texts: Sequence[tuple[str, str]]) -> tuple[list[list[int]], int]:
        """Token ids of each (kind, text), and how many of them were cut."""
        prompted = [self._prompts[kind] + text for kind, text in texts]
        encodings = self._tokenizer(prompted, truncation=True, max_length=self._max_tokens).encodings
        assert encodings is not None, "transformers 5 has fast tokenizers only"
        return [encoding.ids for encoding in encodings], sum(bool(encoding.overflowing) for encoding in encodings)


class _Builder:
    """Appends the rows of whole queries to the cache's files."""

    def __init__(self, files: Mapping[str, BinaryIO], tokenise: _Tokeniser, passage_ids: Ids) -> None:
        self.passage_ids = passage_ids
        self.passage_texts = np.full(len(passage_ids), -1, dtype=np.int32)  # text index; -1: not met yet
        self.query_ids = [np.empty(0, dtype="S16")]  # ascending, as the rows are
        self.query_texts = [np.empty(0, dtype=np.int32)]
        self.summary = {"groups": 0, "triplets": 0, "texts": 0, "tokens": 0, "texts_cut": 0}
        self._files, self._tokenise = files, tokenise

    def add(self, rows: pl.DataFrame) -> None:
        """Write the groups of these rows, and the tokens of the texts that no earlier row had."""
        is_first = (rows["query_id"] != rows["query_id"].shift()).fill_null(True).to_numpy()
        starts = np.flatnonzero(is_first)
        texts, is_new = self._index(rows, is_first)
        self._write_texts(rows, is_new)
        self._write("triplet_texts", texts)
        self._write("targets", rows.select(TARGETS).to_numpy())
        self._write("group_triplets", np.diff(starts, append=len(rows)))
        self.query_ids.append(_raw_ids(rows["query_id"])[starts])
        self.query_texts.append(texts[starts, 0])
        self.summary["groups"] += len(starts)
        self.summary["triplets"] += len(rows)

    def _index(self, rows: pl.DataFrame, is_first: Array) -> tuple[Array, Array]:
        """The text index of each row's query, positive and negative, and which of them are named for the first time."""
        passages = np.stack([_raw_ids(rows["positive_id"]), _raw_ids(rows["negative_id"])], axis=1).ravel()
        place = np.searchsorted(self.passage_ids, passages)
        unmet = np.flatnonzero(self.passage_texts[place] < 0)
        is_new = np.zeros((len(rows), 3), dtype=bool)
        is_new[:, 0] = is_first
        new_passages = unmet[np.unique(place[unmet], return_index=True)[1]]
        is_new[new_passages // 2, 1 + new_passages % 2] = True
        number = self.summary["texts"] + np.cumsum(is_new.ravel()).reshape(is_new.shape) - 1
        self.passage_texts[place[new_passages]] = number[:, 1:].ravel()[new_passages]
        query = number[is_first, 0][np.cumsum(is_first) - 1]
        return np.column_stack([query, self.passage_texts[place].reshape(-1, 2)]), is_new

    def _write_texts(self, rows: pl.DataFrame, is_new: Array) -> None:
        """Tokenise the new texts in the order in which the rows name them."""
        columns = [rows[name].to_list() for name in ("query", "positive", "negative")]
        kinds = ("query", "passage", "passage")
        cells = np.argwhere(is_new).tolist()
        for start in range(0, len(cells), TEXTS_PER_BATCH):
            texts = [(kinds[column], columns[column][row]) for row, column in cells[start : start + TEXTS_PER_BATCH]]
            token_ids, num_cut = self._tokenise(texts)
            lengths = [len(ids) for ids in token_ids]
            self._write("token_ids", np.concatenate(token_ids))
            self._write("text_tokens", np.array(lengths))
            self.summary["texts"] += len(texts)
            self.summary["tokens"] += sum(lengths)
            self.summary["texts_cut"] += num_cut

    def _write(self, name: str, values: Array) -> None:
        self._files[name].write(np.ascontiguousarray(values, dtype=ARRAYS[name]).tobytes())


def _write_vectors(path: Path, vectors: TableVersion, teacher: str | None, builder: _Builder) -> int:
    """Teacher vectors in the order of the texts; returns their width. Raises UserError when a text has none."""
    teacher = teacher or _only_teacher(vectors)
    texts = {
        "query": (np.concatenate(builder.query_ids), np.concatenate(builder.query_texts)),
        "passage": (builder.passage_ids, builder.passage_texts),
    }
    rows = vectors.scan().filter(pl.col("teacher") == teacher).select("text_id", "kind", "vector")
    aligned: Array | None = None
    is_missing = np.ones(builder.summary["texts"], dtype=bool)
    for frame in rows.collect_batches(chunk_size=VECTORS_PER_READ, maintain_order=False):
        for (kind,), of_kind in frame.group_by("kind"):
            values = np.array(of_kind["vector"].to_list(), dtype=np.float32)
            if aligned is None:
                aligned = np.memmap(path, np.float32, "w+", shape=(len(is_missing), values.shape[1]))
            ids, text_of = texts[str(kind)]
            wanted = _raw_ids(of_kind["text_id"])
            place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            is_ours = ids[place] == wanted
            aligned[text_of[place[is_ours]]] = values[is_ours]
            is_missing[text_of[place[is_ours]]] = False
    if aligned is None or is_missing.any():
        raise UserError(
            f"{vectors} has no vector by {teacher} for {is_missing.sum():,} of the {len(is_missing):,} training texts, "
            "expected one for each; run: python -m jobs score --vectors (with the same --tables and --recipe)"
        )
    return int(aligned.shape[1])


def _only_teacher(vectors: TableVersion) -> str:
    teachers = vectors.scan().select(pl.col("teacher").unique()).collect(engine="streaming")["teacher"].sort().to_list()
    if len(teachers) != 1:
        raise UserError(
            f"{vectors} has vectors by {teachers}, expected one teacher; set distill.vectors_teacher to one"
        )
    return str(teachers[0])


def _finish(folder: Path, summary: dict[str, Any]) -> None:
    """Write the summary last, in one step: a cache with a summary is whole."""
    digest = hashlib.sha256()
    for name in sorted(ARRAYS):
        digest.update(f"{name}:{(folder / name).stat().st_size}\n".encode())
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    unfinished = folder / f"{SUMMARY}.unfinished"
    unfinished.write_text(json.dumps(summary | {"digest": digest.hexdigest()}))
    unfinished.rename(folder / SUMMARY)


def _read_array(path: Path, dtype: np.dtype[Any]) -> Array:
    """A file as a memory map; a plain empty array where it is empty, which cannot be mapped."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


def _offsets(counts: Array) -> Array:
    """Where each run starts, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _raw_ids(ids: pl.Series) -> Ids:
    """32 hex digits -> 16 bytes, which sort alike."""
    return np.frombuffer(bytes.fromhex("".join(ids.to_list())), dtype="S16")
