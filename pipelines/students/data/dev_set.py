"""The dev set of a training: a sample of the curated version's dev split, tokenised as training texts are.

    curated@v  --check_dev-->  refused before Ray starts      --build_dev_set(tokenizer, ...)-->  dev.npz  --> DevSet

The same version and config give the same set: queries and passages are taken by their ids. What is relevant is what
was ingested (curation/held_out.py). Memory: the sample, and one block of triplets.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.curation.held_out import (
    EvaluationSet,
    held_out_query_ids,
    held_out_set,
    judged_pairs,
    why_not_held_out,
)
from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.students.config import DistillConfig
from pipelines.students.data.encode import encode_here, frozen
from pipelines.students.data.token_cache import ARRAYS, Array, TokenCache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEV_FILE = "dev.npz"
TEXTS_PER_BATCH = 1_000  # tokenised at once: bounds the memory of their encodings


class DevSet(NamedTuple):
    """Judged dev queries over a corpus, as token ids: the texts are the queries, then the passages."""

    name: str  # curated_triplets@7/dev:300q,5000p
    num_queries: int
    texts: TokenCache
    relevant: Array  # (n, 2): a query's row and a passage's, counted from the first passage
    own: Array  # (n, 2), alike: passages that are the query itself, which are not ranked for it

    @property
    def summary(self) -> dict[str, Any]:
        """What it is, and the sha256 of all of it."""
        return self.texts.summary

    @classmethod
    def open(cls, folder: Path) -> "DevSet":
        """A finished one. Raises FileNotFoundError when the folder holds none."""
        with np.load(folder / DEV_FILE) as file:
            arrays = dict(file)
        summary = _summary(arrays)
        is_query = np.arange(len(arrays["text_tokens"])) < summary["queries"]
        given = {"text_is_query": is_query, **{name: arrays[name] for name in ("token_ids", "text_tokens")}}
        no_triplets = {name: np.empty(0, dtype) for name, dtype in ARRAYS.items()}
        texts = TokenCache.of(no_triplets | given, [], summary)
        return cls(summary["name"], summary["queries"], texts, arrays["relevant"], arrays["own"])


def check_dev(curated: TableVersion, config: DistillConfig) -> None:
    """Refuse to choose by a dev split that cannot be asked. Reads of the texts only those of the dev queries.

    Raises:
        UserError: no query is in it, the versions that say what is relevant are gone, or the corpus is too small.
    """
    if not config.dev_every_steps:
        return
    wanted = f"distill.dev_every_steps is {config.dev_every_steps}, but"
    without = "or leave dev_every_steps out"
    if why := why_not_held_out(curated):
        raise UserError(f"{wanted} {why}: its dev queries cannot be judged; curate again, {without}")
    judged = judged_pairs(curated, held_out_query_ids(curated, "dev").head(config.dev_queries))
    if judged.is_empty():
        raise UserError(
            f"{wanted} {curated} has no query in its dev split: curate again with a curate.dev_share above 0 (--set "
            f"curate.dev_share=0.02), {without}"
        )
    num_queries, num_relevant = judged["query_id"].n_unique(), judged["positive_id"].n_unique()
    if num_relevant > config.dev_passages:
        raise UserError(
            f"the {num_queries:,} dev queries of {curated} have {num_relevant:,} relevant passages, more than "
            f"distill.dev_passages {config.dev_passages:,}: raise it, or lower distill.dev_queries"
        )


def build_dev_set(
    folder: Path, curated: TableVersion, tokenizer: "PreTrainedTokenizerBase", config: DistillConfig
) -> DevSet:
    """Sample and tokenise the dev set into `folder`; a finished one there is opened as it is."""
    if not (folder / DEV_FILE).exists():
        sample = held_out_set(curated, config.dev_queries, config.dev_passages, split="dev", with_negatives=True)
        assert sample is not None, "check_dev has passed it"
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"unfinished_{DEV_FILE}"
        arrays: dict[str, Any] = _arrays(sample, tokenizer, config)
        np.savez(unfinished, **arrays)
        unfinished.rename(folder / DEV_FILE)
    return DevSet.open(folder)


def _arrays(sample: EvaluationSet, tokenizer: "PreTrainedTokenizerBase", config: DistillConfig) -> dict[str, Array]:
    prompts = config.query_prompt or "", config.passage_prompt or ""
    prompted = [prompts[0] + text for text in sample.queries.values()]
    prompted += [prompts[1] + text for text in sample.corpus.values()]
    batches = (prompted[start : start + TEXTS_PER_BATCH] for start in range(0, len(prompted), TEXTS_PER_BATCH))
    encoded = list(encode_here(frozen(tokenizer, config.max_tokens), batches))
    query_rows = {query_id: row for row, query_id in enumerate(sample.queries)}
    passage_rows = {passage_id: row for row, passage_id in enumerate(sample.corpus)}

    def pairs(of: Iterable[tuple[str, Iterable[str]]]) -> Array:
        found = sorted((query_rows[query], passage_rows[one]) for query, passages in of for one in passages)
        return np.array(found, np.int32).reshape(-1, 2)

    return {
        "name": np.array(sample.name),
        "num_queries": np.array(len(sample.queries)),
        "token_ids": np.concatenate([one.token_ids for one in encoded]),
        "text_tokens": np.concatenate([one.text_tokens for one in encoded]),
        "relevant": pairs(sample.qrels.items()),
        "own": pairs(sample.own.items()),
    }


def _summary(arrays: dict[str, Array]) -> dict[str, Any]:
    num_queries, digest = int(arrays["num_queries"]), hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}:{arrays[name].shape}\n".encode() + arrays[name].tobytes())
    return {
        "name": str(arrays["name"]),
        "queries": num_queries,
        "passages": len(arrays["text_tokens"]) - num_queries,
        "tokens": len(arrays["token_ids"]),
        "digest": digest.hexdigest(),
    }
