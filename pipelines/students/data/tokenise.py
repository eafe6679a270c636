"""Builds the token cache: a curated version's training split, each text numbered and tokenised once.

    curated@v (+ vectors@v) --build_token_cache(tokenizer, ...)--> the files of token_cache.py, `summary.json` last

Groups are queries in ascending id, triplets within a group in ascending id, texts in the order in which triplets first
name them: the same curated rows give the same bytes however their files are cut. Memory: the table streams by query
range, once; 21 bytes for each unique text stay while the cache is built.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.students.config import DistillConfig
from pipelines.students.data.teacher_vectors import KIND, ROLES, TEXT, raw_id, vectors_teacher, write_vectors
from pipelines.students.data.token_cache import ARRAYS, SUMMARY, TARGETS, Array, TokenCache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS_PER_BATCH = 2_000  # tokenised at once: bounds the memory of their encodings
ROWS_PER_READ = 200_000


def build_token_cache(
    folder: Path,
    curated: TableVersion,
    tokenizer: "PreTrainedTokenizerBase",
    config: DistillConfig,
    vectors: TableVersion | None = None,
) -> TokenCache:
    """Tokenise the training split of `curated` into `folder`; a finished cache there is opened as it is.

    Prompts stand before the text as in `SentenceTransformer.encode(prompt=...)`. The folder must belong to these
    arguments alone. Raises UserError when there is nothing to train on or a text has no teacher vector.
    """
    if not (folder / SUMMARY).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = {name: stack.enter_context((folder / name).open("wb")) for name in ARRAYS}
            builder = _Builder(files, tokenizer, config)
            for rows in _training_rows(curated):
                builder.add(rows)
        if not builder.summary["triplets"]:
            raise UserError(f"{curated} has no triplet in its train split, expected some; curate again")
        width = 0
        if vectors is not None:
            teacher = vectors_teacher(vectors, curated, config)
            width = write_vectors(folder / "vectors", vectors, teacher, builder.texts)
        _finish(folder, builder.summary | {"vector_width": width})
    return TokenCache.open(folder)


def check_targets(curated: TableVersion) -> None:
    """Refuse targets that are infinite or not a number, with their rows: one of them would spoil every weight."""
    training = curated.scan().filter(pl.col("split") == "train")
    broken = training.filter(~pl.all_horizontal(pl.col(TARGETS).is_finite())).select("triplet_id").head(10)
    if ids := broken.collect(engine="streaming")["triplet_id"].to_list():
        wanted = ", ".join(f"'{triplet_id}'" for triplet_id in ids)
        raise UserError(
            f"{curated} has triplets of which a score or relevance is not finite, expected numbers: {', '.join(ids)}. "
            f'To see them: `python -m jobs query --at {curated} "SELECT * FROM curated_triplets WHERE triplet_id IN '
            f'({wanted})"`; score and curate again, or leave them out'
        )


def cache_bytes(curated: TableVersion, config: DistillConfig, vector_width: int) -> float:
    """About the size of the cache: of each triplet its numbers and targets, of each text its tokens and vector.

    A token is four bytes here, and about four characters of text; the first rows tell how long texts are.
    """
    training = curated.scan().filter(pl.col("split") == "train")
    first = training.head(10_000).select(list(ROLES)).collect()
    ids = [pl.col(f"{role}_id").approx_n_unique().alias(role) for role in ROLES]
    counts = training.select(pl.len(), *ids).collect(engine="streaming").row(0, named=True)
    num_bytes = 44.0 * counts["len"]
    for role in ROLES:
        tokens = (first[role].str.len_chars() / 4 + 2).clip(upper_bound=config.max_tokens).mean()
        assert isinstance(tokens, float), "there is a row to train on"
        num_bytes += counts[role] * 4 * (tokens + 1 + vector_width)
    return float(num_bytes)


def _training_rows(curated: TableVersion) -> Iterator[pl.DataFrame]:
    """The training split in frames of whole queries, ascending by query and triplet; empty frames left out."""
    for frame in curated.read_by_query_range(ROWS_PER_READ):
        rows = frame.filter(pl.col("split") == "train").sort("query_id", "triplet_id")
        if len(rows):
            yield rows


class _Builder:
    """Appends the rows of whole queries to the cache's files; `texts` numbers all texts so far."""

    def __init__(
        self, files: Mapping[str, BinaryIO], tokenizer: "PreTrainedTokenizerBase", config: DistillConfig
    ) -> None:
        self._files, self._tokenizer, self._max_tokens = files, tokenizer, config.max_tokens
        self._prompts = {"query": config.query_prompt or "", "passage": config.passage_prompt or ""}
        self.texts = pl.DataFrame(schema={"kind": KIND, "text_id": pl.UInt128, "number": pl.UInt32})
        self.summary = {"groups": 0, "triplets": 0, "texts": 0, "tokens": 0, "texts_cut": 0}

    def add(self, rows: pl.DataFrame) -> None:
        """Write the groups of these rows, and the tokens of the texts that no earlier row had."""
        numbers, new_texts = self._number(_mentions(rows))
        for batch in new_texts.iter_slices(TEXTS_PER_BATCH):
            self._write_tokens(batch)
        group_triplets = rows.group_by("query_id", maintain_order=True).len()["len"]
        self._write("triplet_texts", numbers.to_numpy())
        self._write("targets", rows.select(TARGETS).to_numpy())
        self._files["triplet_ids"].write(b"".join(rows["triplet_id"].str.decode("hex")))
        self._write("group_triplets", group_triplets.to_numpy())
        self.summary["groups"] += len(group_triplets)
        self.summary["triplets"] += len(rows)

    def _number(self, mentions: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """The number of each mention's text, and the texts that are named for the first time, in that order."""
        named = mentions.unique(TEXT, keep="first", maintain_order=True)
        met = self.texts.lazy().join(named.lazy(), on=TEXT, how="semi").collect(engine="streaming")  # hashes `named`
        new = named.join(met, on=TEXT, how="anti", maintain_order="left").with_row_index("number", len(self.texts))
        numbered = new.select(*TEXT, "number")
        self.texts = self.texts.vstack(numbered)
        of_mentions = mentions.join(met.vstack(numbered), on=TEXT, how="inner", maintain_order="left")
        return of_mentions["number"], new

    def _write_tokens(self, texts: pl.DataFrame) -> None:
        """The token ids of each text, its kind's prompt before it."""
        prompted = [self._prompts[kind] + text for kind, text in texts.select("kind", "text").iter_rows()]
        encodings = self._tokenizer(prompted, truncation=True, max_length=self._max_tokens).encodings
        assert encodings is not None, "transformers 5 has fast tokenizers only"
        lengths = [len(encoding.ids) for encoding in encodings]
        self._write("token_ids", np.concatenate([encoding.ids for encoding in encodings]))
        self._write("text_tokens", np.array(lengths))
        self.summary["texts"] += len(lengths)
        self.summary["tokens"] += sum(lengths)
        self.summary["texts_cut"] += sum(bool(encoding.overflowing) for encoding in encodings)

    def _write(self, name: str, values: Array) -> None:
        self._files[name].write(np.ascontiguousarray(values, dtype=ARRAYS[name]).tobytes())


def _mentions(rows: pl.DataFrame) -> pl.DataFrame:
    """The texts of the rows as they are named: each row's query, positive and negative, then the next row's."""
    return rows.select(
        kind=pl.lit(list(ROLES.values()), dtype=pl.List(KIND)),
        text_id=pl.concat_list([raw_id(f"{role}_id") for role in ROLES]),
        text=pl.concat_list(list(ROLES)),
    ).explode("kind", "text_id", "text")


def _finish(folder: Path, summary: dict[str, Any]) -> None:
    """Write the summary last, in one step: a cache with a summary is whole."""
    digest = hashlib.sha256()
    for name in sorted(ARRAYS.keys() - {"triplet_ids"}):  # what is learnt from: ids only tell rows apart
        digest.update(f"{name}:{(folder / name).stat().st_size}\n".encode())
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    unfinished = folder / f"{SUMMARY}.unfinished"
    unfinished.write_text(json.dumps(summary | {"digest": digest.hexdigest()}))
    unfinished.rename(folder / SUMMARY)
