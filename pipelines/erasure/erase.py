"""Erase what external ids name: out of every table, version and token cache, for good; and which models it concerns.

    external ids --gone_from--> rows of each table --storage/erase.py--> every version without them

With a person's rows go their texts: queries, positives, given negatives and passages that no other row brought. A row
of someone else goes too if it holds such a text, as a mined negative does; so do varied copies, which have everybody's
words. Ids and texts are remembered, hashed, before anything is erased: ingest leaves out what comes again, and after a
kill the same call goes on.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
from filelock import FileLock, Timeout
from pyarrow import fs

from pipelines.checkpoints.models import all_models, trained_from
from pipelines.checkpoints.run_folder import IDENTITY, RUN, token_caches_of
from pipelines.inspection.pins import begun_on, run_folders
from pipelines.scoring.variation import copies_of
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.paths import path_of
from pipelines.stage.progress import tell
from pipelines.storage import Lineage, Tables, TableVersion
from pipelines.storage.commits import ErasureResult, ScoringResult
from pipelines.storage.erase import Gone, check_erasable, count_rows, erase_rows
from pipelines.storage.erased import Memory, hashed, names_erased, read_memory, write_memory
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.storage.vacuum import LEFT_BEHIND
from pipelines.texts.ids import text_id

OF_TRIPLETS = ["triplets", "scored_triplets", "curated_triplets", "dropped_triplets"]
GENERATED = "generated_queries"
JUDGED = "passage_judgements"
ROLES = ["query_id", "positive_id", "negative_id"]


class Erased(NamedTuple):
    """What an erasure took, or would take."""

    rows: pl.DataFrame  # table, rows of its newest version
    models: pl.DataFrame  # model, version that it was trained on, rows of that


def read_ids(text: str) -> list[str]:
    """External ids from a file of one a line. Raises UserError where there is none."""
    path = path_of(text, "--external-ids")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}); expected one external id a line") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no file {path}; expected one external id a line") from error
    ids = sorted({line.rstrip("\r") for line in lines if line.strip()})
    if not ids:
        raise UserError(f"{path} holds no external id; expected one a line")
    return ids


def run(tables: Tables, ids: list[str], *, dry_run: bool = False) -> Erased:
    """Erase what the ids name; a dry run only counts.

    Raises:
        UserError: a model is being trained, or another program did something to a table that stands against it.
    """
    names = ["teacher_vectors", "quarantined_rows", GENERATED, JUDGED, *OF_TRIPLETS]
    there = [name for name in names if tables.latest(name)]
    if not there:
        raise UserError(f"there is no table under {tables.uri}; is --tables (or TABLES) the right root?")
    _say_unknown(tables, ids)
    if dry_run:
        gone = _gone(tables, there, ids, Memory())
        counts = [(name, count_rows(tables, name, rows)) for name, rows in gone.items()]
        return Erased(_by_table(counts), _models(tables, lambda version: _count(version, gone)))
    with _alone(tables):
        _check_nothing_trains(tables)
        check_erasable(tables, there)
        return _erase(tables, there, ids)


def _say_unknown(tables: Tables, ids: list[str]) -> None:
    """Ids that no row has: mistyped, erased before, or of nobody here."""
    there = [newest for name in (GENERATED, "triplets") if (newest := tables.latest(name))]
    known = {one for version in there for one in version.scan().select("external_id").unique().collect().to_series()}
    if unknown := [one for one in ids if one not in known]:
        names = " or ".join(version.name for version in there) or "triplets"
        tell(f"erase: {len(unknown):,} of {len(ids):,} external ids stand in no row of {names}: {first_of(unknown, 3)}")


def _erase(tables: Tables, there: list[str], ids: list[str]) -> Erased:
    hashes = sorted(map(hashed, ids))
    erasure = fingerprint_of(hashes)
    texts = {*read_memory(tables, erasure).texts, *_texts_of_nobody_else(tables, ids)}
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    memory = Memory(external_ids=tuple(hashes), texts=tuple(sorted(texts)), at=at)
    write_memory(tables, erasure, memory)
    record = Lineage("erase", [], Config(), ErasureResult(erasure=erasure)).commit(tables.invocation)
    for name, rows in _gone(tables, there, ids, memory).items():
        erase_rows(tables, name, rows, erasure, record)
    _forget_trainings(tables, erasure)
    _forget_copies(tables, memory.texts)
    counts = [(name, newest.num_erased(erasure)) for name in there if (newest := tables.latest(name))]
    return Erased(_by_table(counts), _models(tables, lambda version: version.num_erased(erasure)))


@contextmanager
def _alone(tables: Tables) -> Iterator[None]:
    """No other erasure on this disk meanwhile: each keeps account of the files that it exchanges."""
    if not tables.is_local:
        yield
        return
    path = Path(tables.path("erased", ".lock"))
    path.parent.mkdir(exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another erasure is at work under {tables.uri}; run this one when it is done") from error


def _by_table(counts: list[tuple[str, int]]) -> pl.DataFrame:
    return pl.DataFrame(counts, {"table": pl.String, "rows": pl.Int64}, orient="row")


def _texts_of_nobody_else(tables: Tables, ids: list[str]) -> list[str]:
    """Text ids that the rows of these external ids brought into triplets or generated_queries, and no other row: what
    was mined or judged as another passage's brings none, it was taken from elsewhere."""
    is_theirs = pl.col("external_id").is_in(ids).fill_null(False)
    brought = [(by, newest.scan()) for by, name in BROUGHT_BY if (newest := tables.latest(name))]
    if not brought:
        return []
    theirs, others = (
        pl.concat([by(rows.filter(whose)) for by, rows in brought]).unique() for whose in (is_theirs, ~is_theirs)
    )
    return theirs.join(others, on="text_id", how="anti").collect(engine="streaming")["text_id"].to_list()


def _of_triplets(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Ids of the texts that came with triplets; what was mined from generated queries came with their passages."""
    rows = rows.filter(~pl.col("source_file").str.contains(rf"^{GENERATED}@\d+$"))
    is_given = pl.col("miner").is_null() | (pl.col("miner") == "given")
    sides = [rows.select(text_id=role) for role in ROLES[:2]]
    return pl.concat([*sides, rows.filter(is_given).select(text_id=ROLES[2])])


def _of_passages(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Ids of the passages that queries were written from, and of these queries."""
    return pl.concat([rows.select(text_id=name) for name in ("passage_id", "query_id")]).drop_nulls()


BROUGHT_BY = [(_of_triplets, "triplets"), (_of_passages, "generated_queries")]


def _gone(tables: Tables, there: list[str], ids: list[str], memory: Memory) -> dict[str, Gone]:
    """Which rows of each table go; vectors first, while the versions that copies were made of still tell which."""
    texts = memory.texts or tuple(_texts_of_nobody_else(tables, ids))
    gone = {name: _gone_from(name, ids, texts) for name in there}
    if "teacher_vectors" in gone:
        gone["teacher_vectors"] = Gone(pl.col("text_id").is_in([*texts, *_varied_copies(tables, gone)]))
    return gone


def _gone_from(name: str, ids: list[str], texts: Sequence[str]) -> Gone:
    """Which rows of a table go; of a quarantined row what it held, where it may be theirs."""
    if name == "teacher_vectors":
        return Gone(pl.col("text_id").is_in(texts))
    if name == "quarantined_rows":
        hashes = frozenset(map(hashed, ids))
        holds = pl.col("raw").map_elements(lambda raw: names_erased(raw, hashes), return_dtype=pl.Boolean)
        return Gone(holds.fill_null(False), blank=("raw", "named_source"))
    if name == JUDGED:  # a pair of texts, nobody's row: it goes with one of them
        return Gone(pl.col("query_id").is_in(texts) | pl.col("passage_id").is_in(texts))
    roles = ["passage_id", *ROLES] if name == GENERATED else ROLES
    of_texts = pl.any_horizontal(pl.col(role).is_in(texts).fill_null(False) for role in roles)
    if name == GENERATED and texts:  # grades that could not be read: their answer may quote any candidate
        of_texts |= pl.col("answer").is_not_null() & pl.col("query_id").is_not_null()
    return Gone(pl.col("external_id").is_in(ids).fill_null(False) | of_texts)


def _varied_copies(tables: Tables, gone: dict[str, Gone]) -> set[str]:
    """Text ids of all varied copies of each version that loses rows: any of their words may come from these."""
    newest, made = tables.latest("teacher_vectors"), dict[str, int]()
    for version, _ in newest.results(ScoringResult) if newest else ():
        for one in version.commit.inputs:
            if one.version.startswith("curated_triplets@"):
                made[one.version] = max(made.get(one.version, 0), version.commit.config.get("varied_copies", 0))
    versions = [(tables.parse(name), copies) for name, copies in made.items() if copies]
    concerned = [(version, copies) for version, copies in versions if _count(version, gone)]
    return {text_id(text) for version, copies in concerned for batch in copies_of(version, copies) for text in batch}


def _check_nothing_trains(tables: Tables) -> None:
    """Raises UserError while a training holds its name: it would go on with what it has read."""
    for folder in run_folders(tables):
        if folder.read(IDENTITY) and folder.read(RUN) is None:
            with folder.lock():
                continue


def _forget_trainings(tables: Tables, erasure: str) -> None:
    """What killed trainings on such rows kept: the next one under that name begins anew, on what is left."""
    for folder in run_folders(tables):
        identity = folder.read(IDENTITY)
        if not identity or folder.read(RUN) is not None or not folder.has_trained():
            continue
        if any(tables.parse(one.version).num_erased(erasure) for one in begun_on(identity)):
            with folder.lock():
                folder.forget_training()
            tell(f"erase: what the training {folder.name} kept is gone: the same command begins it anew")


def _forget_copies(tables: Tables, texts: Sequence[str]) -> None:
    """Token caches of this root's rows on this machine, which are built anew, and texts that killed scorings left."""
    curated = tables.latest("curated_triplets")
    for folder in Path(tempfile.gettempdir()).glob(f"{token_caches_of(curated)}*/") if curated else ():
        shutil.rmtree(folder, ignore_errors=True)  # who has it open reads on
    filesystem, root = tables.filesystem()
    for info in filesystem.get_file_info(fs.FileSelector(root)):
        if info.base_name.startswith(LEFT_BEHIND):
            rows = pl.scan_parquet(tables.path(info.base_name), glob=False, storage_options=tables.polars_options)
            if rows.filter(pl.col("text_id").is_in(texts)).select(pl.len()).collect().item():
                filesystem.delete_file(info.path)


def _models(tables: Tables, count: Callable[[TableVersion], int]) -> pl.DataFrame:
    """Each model, and each version that it was trained on and that loses rows."""
    found = list[tuple[str, str, int]]()
    for row in all_models(tables).to_dicts():
        try:
            counts = [(str(version), count(version)) for version in trained_from(tables, row)]
        except UserError as error:
            tell(f"erase: what {row['model_id']} was trained on cannot be told: {error}")
            continue
        found += [(row["model_id"], version, rows) for version, rows in counts if rows]
    return pl.DataFrame(found, {"model": pl.String, "version": pl.String, "rows": pl.Int64}, orient="row")


def _count(version: TableVersion, gone: dict[str, Gone]) -> int:
    if version.unreadable:
        return 0
    return int(version.scan().filter(gone[version.name].rows).select(pl.len()).collect().item())
