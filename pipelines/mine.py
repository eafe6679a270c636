"""Mine negatives for (query, positive) pairs: files of pairs, or BEIR folders, become triplets.

    pairs + passages --ranks first_rank..last_rank of BM25 or of a bi-encoder's vectors, random ones-->
        triplets@v + quarantined_rows + ingested_files (+ teacher_vectors@w)

The passages are all positives of the input, the corpora of its BEIR folders and the --passages file. A negative is
never a passage that the input knows as positive for that query, nor the query's own text or document; case,
punctuation, spacing and Unicode's spellings make no other query and no other passage (`normalise` in
pipelines/texts/comparison.py), and passages that are nearly the same count as one. What is drawn depends on the query,
the set of passages, the positives and the config, not on the order of rows. A pair labelled 0 is no positive: its
passage is a negative given to its query, beside those that are drawn. Of a BEIR folder the train judgements are mined,
or else all. An input generated_queries@v is a version of that table: its pairs and their negatives
(pipelines/mining/generated.py).

With `dense` among the miners, or `consistent_within` (pipelines/mining/consistency.py), a bi-encoder encodes all
queries and passages on Ray's actors, each once: what is in teacher_vectors is taken from there, and a run that was
killed goes on. Then no negative is nearly as near to the query as its positive, or a positive of a query like it
(pipelines/mining/draw.py).

Memory: texts of pairs and passages lie in temporary files (pipelines/texts/on_disk.py, pipelines/mining/spooled.py);
ids and numbers are held, about 100 bytes of a passage, 300 of a query with one positive. Vectors come block by block
(pipelines/mining/dense.py). The BM25 index, where it is asked for, is held whole: about 2.5 GB for a million passages
of 100 words (pipelines/search/bm25.py). More than `max_passages` are refused. Their number is printed.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipelines.intake.accounts import FileCounts, Intake, describe_file
from pipelines.intake.append_triplets import append_new, record_missing_files
from pipelines.intake.beir import BeirSet, is_beir_folder
from pipelines.intake.delimited import Quoting
from pipelines.intake.find_files import find_files
from pipelines.intake.input_files import InputFile
from pipelines.intake.layouts import RowChecks, check_named_columns
from pipelines.intake.spill import Negative, Spill
from pipelines.mining.consistency import (
    REASON,
    ConsistencyConfig,
    consistent,
    foreseen,
    in_share_of,
    positive_ranks,
    tell_gone,
)
from pipelines.mining.draw import DrawConfig, Drawn, mine_negatives
from pipelines.mining.generated import GeneratedQueriesInput, take_generated
from pipelines.mining.inputs import all_passages, is_mined, read_judgements, read_pairs
from pipelines.mining.known import Known, Pair, known_positives, sources_of
from pipelines.mining.passages import PassageLimits, Passages, tell_near_duplicates
from pipelines.mining.spooled import Spooled
from pipelines.scoring.config import ScoreConfig
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.erased import erased_ids
from pipelines.storage.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from pipelines.mining.dense import DenseIndex
    from pipelines.scoring.pair_encoder import PairEncoder

ADDED = {*ConsistencyConfig.model_fields, "miners", "draw", "encoder"}
ADDED |= {"max_positive_share", "min_positive_margin", "like_query_cosine", "near_duplicates", "index_recall"}
"""Fields that older minings had not: at their defaults an older one is told as the same, and nothing is mined anew."""


class MineConfig(DrawConfig, ConsistencyConfig, RowChecks):
    """Which pairs are believed, which passages become negatives, and what an input row must be.

    Stored with every version it produced.
    """

    max_passages: int = Field(2_000_000, ge=2)
    """More distinct passages are refused: about 100 bytes of each are held in memory, 2.5 KB where `bm25` is among the
    miners, and all texts in the temporary folder."""

    encoder: str | None = None
    """The bi-encoder for dense negatives and for consistency, named as score.teacher is; null is score.teacher, where
    that is one. All else that [score] says of a teacher and of its actors counts here, too."""

    index_recall: float | None = Field(None, gt=0, le=1)
    """Of dense ranks: an index of faiss finds this share of the nearest `last_rank`, measured on 512 of the queries;
    0.95 for many millions of passages. It holds two bytes of each dimension of each passage. null compares all."""

    def needs_vectors(self) -> bool:
        return "dense" in self.miners or self.consistent_within is not None

    def encoder_config(self, score: ScoreConfig) -> ScoreConfig | None:
        """Which bi-encoder, and how it works; None where none is needed.

        Raises:
            UserError: the recipe's teacher is no bi-encoder, and no other is named.
        """
        if not self.needs_vectors():
            return None
        if self.encoder is not None and self.encoder != score.teacher:
            own = {"teacher": self.encoder, "teacher_kind": "bi_encoder", "teacher_revision": None}
            return score.model_copy(update=own | dict.fromkeys(("teacher_sha256", "query_prompt", "passage_prompt")))
        if score.teacher_kind != "bi_encoder":
            raise UserError(
                f"dense negatives and consistency need a bi-encoder, found the {score.teacher_kind} {score.teacher}: "
                "expected mine.encoder to name one, as score.teacher is named"
            )
        return score


def run(
    tables: Tables,
    inputs: list[str],
    config: MineConfig,
    *,
    closed: str | None = None,
    encoder: ScoreConfig | None = None,
    connect: Callable[[], None] | None = None,
    **told: Any,
) -> TableVersion:
    """Append what is new of the mined triplets. Returns the newest triplets version, the old one if nothing was new.

    Args:
        encoder: `config.encoder_config`'s; with it comes `connect`, which connects to Ray, as often as asked.
        told: of the files, as `_Asked.of` takes it.
    """
    record_missing_files(tables, config)
    asked = _Asked.of(tables, inputs, config, **told)
    dense = _encoder(tables, encoder, connect) if encoder and connect else None
    how = {**asked.columns, "mined": _fingerprint(asked, dense)}
    for file in asked.files:
        file.columns = json.dumps({**how, **file.found.told}, sort_keys=True)

    def spill_rows(intake: Intake) -> list[TableVersion]:
        _tell_what_stays(tables, config)
        pairs, known, drawn_from = asked.read(intake)
        index = _index(dense, known, drawn_from, intake.files, config.index_recall) if dense else None
        if index and config.consistent_within is not None:
            ranks = positive_ranks(known, drawn_from, index, config)
            pairs, known = _consistent(intake, pairs, known, ranks, config)
        sources, drawn = sources_of(pairs, known, [file.source for file in intake.files]), Drawn()
        for negatives in mine_negatives(known, drawn_from, config, sources, index):
            drawn.append(negatives)
        tell_near_duplicates(drawn_from, known, sources)
        _spill_mined(intake, pairs, drawn_from, known, drawn)
        return [*(one.version for one in asked.generated), *([index.queries.version] if index else [])]

    per_row = config.negatives_per_query
    return append_new(tables, "mine", config, asked.files, spill_rows, triplets_per_row=per_row, closed=closed)


def _tell_what_stays(tables: Tables, config: MineConfig) -> None:
    if config.consistent_within is not None and (triplets := tables.latest("triplets")):
        tell(
            f"mine: what {triplets} has stays, also of pairs that are left out now: to be without, use another --tables"
        )


def foresee(
    tables: Tables,
    inputs: list[str],
    config: MineConfig,
    share: float | None,
    *,
    encoder: ScoreConfig,
    connect: Callable[[], None],
    **told: Any,
) -> pl.DataFrame:
    """What consistency would leave out, from a share of the queries: `foreseen` of each source, the worst first.

    The ranks are those that the run would give. Only vectors are written, which the run then need not make.

    Args:
        share: as `in_share_of` takes it.
        told: of the files, as `_Asked.of` takes it.
    Raises:
        UserError: consistency is not asked for, or the share holds no query.
    """
    if config.consistent_within is None:
        raise UserError(
            "mine --dry-run says what consistency would leave out; say within how many: --consistent-within"
        )
    config = config.model_copy(update={"near_duplicates": None})  # nothing is drawn
    asked = _Asked.of(tables, inputs, config, **told)
    with tempfile.TemporaryDirectory(prefix="mine-") as folder:
        intake = Intake(asked.files, config, Spill(Path(folder), 0), erased_ids(tables))
        pairs, known, drawn_from = asked.read(intake)
    drawn, of_share = in_share_of(pairs, known, share)
    dense = _encoder(tables, encoder, connect)
    sample = np.arange(min(config.consistency_sample, len(drawn_from)))
    compared = np.union1d(sample, drawn_from.positions(of_share.positives).values)
    version = dense.encode(of_share.queries, drawn_from.texts.only(compared), asked.files)
    index = _index_of(version, dense, of_share, drawn_from)
    _, gone, _ = consistent(drawn, positive_ranks(of_share, drawn_from, index, config), config, of_share)
    sources = {position: file.source for position, file in enumerate(asked.files)}
    return foreseen(pairs, drawn, gone, sources)


class _Asked(NamedTuple):
    """What is to be mined, opened."""

    config: MineConfig
    files: list[FileCounts]
    judgements: dict[str, BeirSet]  # by their files
    passage_files: list[InputFile]
    generated: list[GeneratedQueriesInput]
    columns: Mapping[str, str]
    own_source: bool

    @classmethod
    def of(
        cls,
        tables: Tables,
        inputs: list[str],
        config: MineConfig,
        *,
        passages: str | None = None,
        columns: Mapping[str, str] | None = None,
        quoting: Quoting | None = None,
        source: str | None = None,
        licence: str | None = None,
    ) -> "_Asked":
        check_named_columns(columns := columns or {})
        generated, others = take_generated(tables, inputs)
        judgements = {path: beir for folder in filter(is_beir_folder, others) for path, beir in read_judgements(folder)}
        found = find_files((path for path in others if not is_beir_folder(path)), quoting)
        found += [InputFile(path, beir.name, quoting=quoting) for path, beir in judgements.items() if is_mined(path)]
        files = [describe_file(file, source, licence) for file in [*found, *generated]]
        passage_files = find_files([passages] if passages is not None else [], quoting)
        return cls(config, files, judgements, passage_files, generated, columns, source is None)

    def read(self, intake: Intake) -> tuple[Spooled[Pair], Known, Passages]:
        """The pairs, what is known as positive, and what negatives are drawn from."""
        judged, config = self.judgements.values(), self.config
        pairs = Spooled(read_pairs(intake, self.judgements, self.columns, own_source=self.own_source))
        known = known_positives(pairs, judged)
        limits = PassageLimits(config.max_passages, config.near_duplicates)
        corpora = judged, self.passage_files, self.generated
        passages, known = all_passages(pairs, *corpora, config, limits, known)
        tell(f"mine: {len(pairs):,} pairs, {len(passages):,} passages of {passages.texts.num_bytes >> 20:,} MB")
        return pairs, known, passages


def _encoder(tables: Tables, config: ScoreConfig, connect: Callable[[], None]) -> "PairEncoder":
    from pipelines.scoring.pair_encoder import PairEncoder  # ray: every command reads MineConfig

    return PairEncoder.of(tables, config, "the same command again", connect)


def _index(
    encoder: "PairEncoder", known: Known, passages: Passages, files: Sequence[FileCounts], recall: float | None
) -> "DenseIndex":
    version = encoder.encode(known.queries, passages.texts, files)
    return _index_of(version, encoder, known, passages, recall)


def _index_of(
    version: TableVersion | None,
    encoder: "PairEncoder",
    known: Known,
    passages: Passages,
    recall: float | None = None,
) -> "DenseIndex":
    from pipelines.mining.dense import dense_index  # torch: BM25 does without

    return dense_index(version, encoder.name, known.queries, passages, recall)


def _fingerprint(asked: _Asked, dense: "PairEncoder | None") -> str:
    """Of everything that decides the negatives; in ingested_files it tells one mining of a file from another."""
    contents = {file.sha256 for file in asked.files} | {beir.digest for beir in asked.judgements.values()}
    defaults, values = MineConfig().model_dump(mode="json"), asked.config.model_dump(mode="json")
    if not dense:
        values = {name: value for name, value in values.items() if name not in ADDED or value != defaults[name]}
    named = [dense.name] if dense else []
    return fingerprint_of([values, sorted(contents), sorted(file.sha256 for file in asked.passage_files), *named])


def _consistent(
    intake: Intake, pairs: Iterable[Pair], known: Known, ranks: NDArray[np.int64], config: MineConfig
) -> tuple[Spooled[Pair], Known]:
    """The pairs that stay, and what is known of them; the others are quarantined with their rank."""
    kept, gone, known = consistent(pairs, ranks, config, known)
    for (position, number, row), rank in gone:
        found_in = {"query": row.query[:1000], "positive": row.positives[0][:1000]}
        found_in |= {"external_id": row.external_id} if row.external_id else {}
        intake.leave_out(position, number, REASON, json.dumps(found_in, ensure_ascii=False), rank, row.source)
    sources = {position: file.source for position, file in enumerate(intake.files)}
    tell_gone(gone, pairs, sources, config.consistent_within or 0)
    return kept, known


def _spill_mined(intake: Intake, pairs: Spooled[Pair], passages: Passages, known: Known, drawn: Drawn) -> None:
    given = passages.positions(known.given)
    for block in pairs.blocks():
        asking = [pair for pair in block if pair.row.is_positive]
        queries = known.queries.positions(pair.row.query for pair in asking).tolist()
        needed = {one.position for query in queries for one in drawn[query]}
        positions = np.array(sorted(needed.union(*(given[query].tolist() for query in queries))), np.int64)
        texts = dict(zip(positions.tolist(), passages.texts.read(positions), strict=True))
        for (position, number, row), query in zip(asking, queries, strict=True):
            found = [Negative(texts[one]) for one in given[query].tolist()]
            found += [Negative(texts[one.position], *one[1:]) for one in drawn[query]]
            if not found:
                found_in = {"query": row.query[:1000]} | ({"external_id": row.external_id} if row.external_id else {})
                raw = json.dumps(found_in, ensure_ascii=False)
                intake.quarantine(position, number, ["no_negative_found"], raw, row.source)
            intake.add(position, number, row, found)
    for position in range(len(intake.files)):
        intake.refuse_if_mostly_bad(position)
