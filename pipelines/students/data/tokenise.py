"""Builds the token cache: the texts that a training reads, each numbered and tokenised once, and its triplets.

    curated@v (+ vectors@v) --build_token_cache(tokenizer, ...)--> the files of token_cache.py, `summary.json` last

Groups are queries in ascending id, triplets within a group in ascending id, texts in the order in which triplets first
name them, and then candidates by id: the same curated rows give the same bytes however their files are cut, and however
many processes tokenise. Plain texts follow in ascending id (texts.py). Memory: the table streams by query range, once;
21 bytes for each unique text stay while the cache is built.
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
from pipelines.students.data.encode import EncodeAll, Encoded, encode_here, frozen
from pipelines.students.data.rows import ScoredPassages, training_rows
from pipelines.students.data.teacher_vectors import KIND, ROLES, TEXT, raw_id, vectors_teachers, write_vectors
from pipelines.students.data.texts import texts_with_vectors
from pipelines.students.data.token_cache import (
    ARRAYS,
    CANDIDATE_TARGETS,
    SOURCES,
    SUMMARY,
    TARGETS,
    Array,
    TokenCache,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS_PER_BATCH = 2_000  # tokenised at once: bounds the memory of their encodings
ROWS_PER_READ = 200_000
FOLLOW_FROM_ROWS = {"text_is_query", "triplet_ids", "group_source", "group_candidates"}
FOLLOW_FROM_ROWS |= {"candidate_passages", "candidate_targets"}
"""Arrays that say again what the others say of curated rows: the digest, which is older, leaves them out there."""


def build_token_cache(
    folder: Path,
    curated: TableVersion,
    tokenizer: "PreTrainedTokenizerBase",
    config: DistillConfig,
    vectors: TableVersion | None = None,
    encode_all: EncodeAll = encode_here,
) -> TokenCache:
    """Tokenise what `config` wants of the training split of `curated`, or of the texts of `vectors`, into `folder`.

    A finished cache there is opened as it is. Prompts stand before texts as in `SentenceTransformer.encode(prompt=)`.

    Args:
        folder: must belong to these arguments alone.
        encode_all: where texts become token ids; the bytes are the same.
    Raises:
        UserError: there is nothing to train on, or a text of a triplet has no teacher vector.
    """
    if not (folder / SUMMARY).exists():
        folder.mkdir(parents=True, exist_ok=True)
        teachers = vectors_teachers(vectors, curated, config) if vectors is not None else ()
        with ExitStack() as stack:
            builder = _Builder({name: stack.enter_context((folder / name).open("wb")) for name in ARRAYS}, config)
            batches = builder.of_triplets(curated)
            if config.data == "texts" and vectors is not None:
                batches = builder.of_texts(texts_with_vectors(curated, vectors, teachers, config))
            for encoded in encode_all(frozen(tokenizer, config.max_tokens), batches):
                builder.write_tokens(encoded)
        if not builder.summary["texts"]:
            raise UserError(f"{curated} has no {config.data[:-1]} in its train split, expected some; curate again")
        width = write_vectors(folder / "vectors", vectors, teachers, builder.texts) if vectors else 0
        _finish(folder, builder.summary | {"vector_width": width}, builder.sources, config)
    return TokenCache.open(folder)


def check_targets(curated: TableVersion, config: DistillConfig) -> None:
    """Refuse targets that are infinite or not a number, with their rows: one of them would spoil every weight."""
    broken = training_rows(curated, config).filter(~pl.all_horizontal(pl.col(TARGETS).is_finite()))
    if ids := broken.select("triplet_id").head(10).collect(engine="streaming")["triplet_id"].to_list():
        wanted = ", ".join(f"'{triplet_id}'" for triplet_id in ids)
        raise UserError(
            f"{curated} has triplets of which a score or relevance is not finite, expected numbers: {', '.join(ids)}. "
            f'To see them: `python -m jobs query --at {curated} "SELECT * FROM curated_triplets WHERE triplet_id IN '
            f'({wanted})"`; score and curate again, or leave them out'
        )


def cache_bytes(
    curated: TableVersion, config: DistillConfig, vector_width: int, vectors: TableVersion | None = None
) -> float:
    """About the size of the cache: of each triplet its numbers and targets, of each text its tokens and vector.

    A token is four bytes here, and about four characters of text; the first rows tell how long texts are.
    """
    training = training_rows(curated, config)
    first = training.head(10_000).select(list(ROLES)).collect()
    ids = [pl.col(f"{role}_id").approx_n_unique().alias(role) for role in ROLES]
    counts = training.select(pl.len(), *ids).collect(engine="streaming").row(0, named=True)
    num_bytes = 68.0 * counts["len"]
    each = dict.fromkeys(ROLES, 0.0)
    for role in ROLES:
        tokens = (first[role].str.len_chars() / 4 + 2).clip(upper_bound=config.max_tokens).mean()
        assert isinstance(tokens, float), "there is a row to train on"
        each[role] = 5 + 4 * (tokens + vector_width)
        num_bytes += counts[role] * each[role]
    if config.data == "texts" and vectors is not None:
        plain = vectors.scan().filter(pl.col("text").is_not_null())
        sizes = plain.select(pl.col("text").str.len_chars().sum(), pl.len()).collect(engine="streaming")
        chars, num_texts = map(int, sizes.row(0))
        num_bytes += min(chars, 4 * config.max_tokens * num_texts) + num_texts * (13 + 4 * vector_width)
    elif config.candidates_from == "scored":  # a row that was dropped has one new passage, as a rule: its negative
        num_bytes += ScoredPassages(curated).dropped.num_rows() * (12 + each["negative"])
    return float(num_bytes)


class _Builder:
    """Appends the rows of whole queries, or texts, to the cache's files; `texts` numbers all texts so far."""

    def __init__(self, files: Mapping[str, BinaryIO], config: DistillConfig) -> None:
        self._files, self._config = files, config
        self._prompts = {"query": config.query_prompt or "", "passage": config.passage_prompt or ""}
        self.texts = pl.DataFrame(schema={"kind": KIND, "text_id": pl.UInt128, "number": pl.UInt32})
        self.sources: dict[str, int] = {}  # by its first group
        self.summary = {"groups": 0, "triplets": 0, "texts": 0, "tokens": 0, "texts_cut": 0}

    def of_triplets(self, curated: TableVersion) -> Iterator[list[str]]:
        """The texts of the training rows in batches, each once; writes their groups, triplets and candidates."""
        training = training_rows(curated, self._config)
        scored = ScoredPassages(curated) if self._config.candidates_from == "scored" else None
        for query_range in curated.query_ranges(ROWS_PER_READ):
            rows = training.filter(query_range.contains("query_id")).collect().sort("query_id", "triplet_id")
            if not len(rows):
                continue
            rows = rows.with_columns(group=pl.col("query_id").rle_id())
            mentions = _mentions(rows)
            if scored is not None:
                groups = rows.select("query_id", "group").unique()
                passages = scored.of_queries(groups.select("query_id"), query_range)
                mentions = _with_scored(mentions, passages.join(groups, on="query_id", maintain_order="left"))
            numbered, new_texts = self._number(mentions)
            self._write_groups(rows)
            self._write_passages(numbered)
            yield from self._batches(new_texts)

    def of_texts(self, frames: Iterator[pl.DataFrame]) -> Iterator[list[str]]:
        """Those that are not kept out, in batches, each once."""
        kept_out = pl.DataFrame(schema={"kind": KIND, "text_id": pl.UInt128})
        for texts in frames:
            kept_out = kept_out.vstack(texts.filter("is_kept_out").select(TEXT)).unique()
            _, new_texts = self._number(texts.filter(~pl.col("is_kept_out")).drop("is_kept_out"))
            yield from self._batches(new_texts)
        self.summary["texts_kept_out"] = len(kept_out)

    def write_tokens(self, encoded: Encoded) -> None:
        """The token ids of a batch, in the order in which batches were handed out."""
        self._write("token_ids", encoded.token_ids)
        self._write("text_tokens", encoded.text_tokens)
        self.summary["texts"] += len(encoded.text_tokens)
        self.summary["tokens"] += len(encoded.token_ids)
        self.summary["texts_cut"] += encoded.num_cut

    def _batches(self, texts: pl.DataFrame) -> Iterator[list[str]]:
        """The texts, each kind's prompt before them."""
        self._write("text_is_query", (texts["kind"] == "query").to_numpy())
        for batch in texts.iter_slices(TEXTS_PER_BATCH):
            yield [self._prompts[kind] + text for kind, text in batch.select("kind", "text").iter_rows()]

    def _number(self, mentions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The mentions with their text's number, and the texts that are named for the first time, in that order."""
        named = mentions.unique(TEXT, keep="first", maintain_order=True)
        met = self.texts.lazy().join(named.lazy(), on=TEXT, how="semi").collect(engine="streaming")  # hashes `named`
        new = named.join(met, on=TEXT, how="anti", maintain_order="left").with_row_index("number", len(self.texts))
        numbered = new.select(*TEXT, "number")
        self.texts = self.texts.vstack(numbered)
        of_mentions = mentions.drop("text").join(met.vstack(numbered), on=TEXT, how="inner", maintain_order="left")
        return of_mentions, new

    def _write_groups(self, rows: pl.DataFrame) -> None:
        """Each group's triplets, their targets and ids; its source is that of its first triplet."""
        groups = rows.group_by("group", maintain_order=True).agg(pl.len(), pl.col("source").first())
        for source in groups["source"].unique(maintain_order=True):
            self.sources.setdefault(source, len(self.sources))
        self._write("group_triplets", groups["len"].to_numpy())
        self._write("group_source", groups["source"].replace_strict(self.sources, return_dtype=pl.Int32).to_numpy())
        self._write("targets", rows.select(TARGETS).to_numpy())
        self._write("triplet_ids", np.frombuffer(bytes.fromhex("".join(rows["triplet_id"])), ARRAYS["triplet_ids"]))
        self.summary["groups"] += len(groups)
        self.summary["triplets"] += len(rows)

    def _write_passages(self, mentions: pl.DataFrame) -> None:
        """The texts of the triplets, and each group's candidates."""
        self._write("triplet_texts", mentions.filter("is_of_triplet")["number"].to_numpy())
        passages = mentions.filter(pl.col("kind") == "passage")
        candidates = passages.unique(["group", "number"], keep="first", maintain_order=True)
        self._write("group_candidates", candidates.group_by("group", maintain_order=True).len()["len"].to_numpy())
        self._write("candidate_passages", candidates["number"].to_numpy())
        self._write("candidate_targets", candidates.select(CANDIDATE_TARGETS).to_numpy())

    def _write(self, name: str, values: Array) -> None:
        self._files[name].write(np.ascontiguousarray(values, dtype=ARRAYS[name]).tobytes())


def _mentions(rows: pl.DataFrame) -> pl.DataFrame:
    """The texts of the rows as they are named: each row's query, positive and negative, then the next row's."""
    of_query = pl.lit(None, pl.Float32)
    return (
        rows.select(
            "group",
            kind=pl.lit(list(ROLES.values()), dtype=pl.List(KIND)),
            text_id=pl.concat_list([raw_id(f"{role}_id") for role in ROLES]),
            text=pl.concat_list(list(ROLES)),
            score=pl.concat_list(of_query, "positive_score", "negative_score"),
            relevance=pl.concat_list(of_query, "positive_relevance", "negative_relevance"),
        )
        .explode("kind", "text_id", "text", "score", "relevance")
        .with_columns(is_of_triplet=True)
    )


def _with_scored(mentions: pl.DataFrame, passages: pl.DataFrame) -> pl.DataFrame:
    """Behind each group's mentions the further passages that were scored for it."""
    further = passages.select(
        "group",
        "score",
        "relevance",
        kind=pl.lit("passage", KIND),
        text_id=raw_id("passage_id"),
        text="passage",
        is_of_triplet=False,
    )
    return pl.concat([mentions, further.select(mentions.columns)]).sort("group", maintain_order=True)


def _finish(folder: Path, summary: dict[str, Any], sources: Mapping[str, int], config: DistillConfig) -> None:
    """Write the summary last, in one step: a cache with a summary is whole."""
    as_ever = config.data == "triplets" and config.candidates_from == "curated"
    digest = hashlib.sha256()
    for name in sorted(ARRAYS.keys() - FOLLOW_FROM_ROWS if as_ever else ARRAYS):
        digest.update(f"{name}:{(folder / name).stat().st_size}\n".encode())
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    (folder / SOURCES).write_text(json.dumps(list(sources)))
    unfinished = folder / f"{SUMMARY}.unfinished"
    unfinished.write_text(json.dumps(summary | {"digest": digest.hexdigest()}))
    unfinished.rename(folder / SUMMARY)
