"""The rows of files that are new into the tables: quarantined_rows, then triplets, then ingested_files.

    files that are new --> Spill --first occurrence, not yet there, sorted--> triplets@v    counts --> ingested_files

The commits come in that order, so a crash between them leaves no triplet without its explanation; the triplets commit
carries its files' counts, from which `record_missing_files` completes ingested_files when the next run begins.
Each commit expects the version its rows were compared with: when another run was faster, they are compared again.
"""

import gc
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import polars as pl

from pipelines.intake.accounts import FileCounts, Intake
from pipelines.intake.layouts import RowChecks
from pipelines.intake.spill import Spill
from pipelines.stage import hints
from pipelines.stage.config import Config
from pipelines.stage.disk import check_room
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.progress import tell
from pipelines.storage import Lineage, Tables, TableVersion, VersionMoved, delete_rows, new_version
from pipelines.storage.commits import IngestedFile, IntakeResult, Record
from pipelines.storage.erased import erased_ids
from schemas import IngestedFiles, QuarantinedRows, Table, Triplets

NewRows = Callable[[TableVersion | None], Iterator[pl.DataFrame]]
"""Given the version that is there: the blocks of rows that it does not have."""


def append_new(
    tables: Tables,
    stage: str,
    config: RowChecks,
    files: Sequence[FileCounts],
    spill_rows: Callable[[Intake], Sequence[TableVersion]],
    triplets_per_row: int = 1,
    closed: str | None = None,
) -> TableVersion:
    """Append what is new of the rows that `spill_rows` takes from those files that were not ingested before.

    Args:
        spill_rows: gives the versions that it read beside the files.
        closed: why nothing may be added; a file that was not ingested before is then refused.
    Returns:
        The newest triplets version, the old one if nothing was new.
    """
    files = _not_yet_ingested(tables, files)
    if files and closed is not None:
        raise UserError(f"{files[0].path} was not ingested before, but {closed}")
    if files:
        num_bytes = triplets_per_row * sum(map(_text_bytes, files))
        check_room(tempfile.gettempdir(), num_bytes, f"{stage}: sorting the rows")
        with tempfile.TemporaryDirectory(prefix=f"{stage}-") as folder, _few_collections():
            spill = Spill(Path(folder), triplets_per_row * sum(file.found.size_bytes for file in files))
            inputs = spill_rows(Intake(files, config, spill, erased_ids(tables)))
            return _append_spilled(tables, spill, files, Lineage(stage, inputs, config))
    triplets = tables.latest("triplets")
    if triplets is None:
        raise UserError("all of this input was ingested before and gave no triplet; expected a file with usable rows")
    return triplets


@contextmanager
def _few_collections() -> Iterator[None]:
    """Rows have no cycles: looking for some in all that is there, every 700 rows, took a sixth of ingest's time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _text_bytes(file: FileCounts) -> int:
    """About the text in a file: text compresses to a quarter."""
    is_plain = Path(file.path).suffix in (".jsonl", ".json", ".ndjson", ".csv", ".tsv")
    return file.found.size_bytes * (1 if is_plain else 4)


def _not_yet_ingested(tables: Tables, files: Sequence[FileCounts]) -> list[FileCounts]:
    """The files that ingested_files does not know by content, source and columns; the others are named."""
    ingested = tables.latest("ingested_files")
    known = set(ingested.scan().select(IngestedFiles.key_columns()).collect().iter_rows()) if ingested else set()
    new: list[FileCounts] = []
    for file in files:
        if before := sorted(known & file.keys):
            tell(f"{file.path}: the same content was ingested before as {before[0][1]}: adds nothing")
        else:
            known.add((file.sha256, file.source, file.columns))
            new.append(file)
    return new


def _append_spilled(tables: Tables, spill: Spill, files: list[FileCounts], lineage: Lineage) -> TableVersion:
    """Commit what is new of the spilled rows and print each file's counts. Returns the newest triplets version."""

    def new_quarantined(base: TableVersion | None) -> Iterator[pl.DataFrame]:
        for rows in spill.quarantined():
            named = _with_files(rows, files)
            yield _absent(QuarantinedRows, named, base, pl.col("source_sha256").is_in(named["source_sha256"].unique()))

    def new_triplets(base: TableVersion | None) -> Iterator[pl.DataFrame]:
        found: Counter[int] = Counter()
        for block in spill.blocks():
            near = pl.col("query_id").is_between(pl.lit(block["query_id"].min()), pl.lit(block["query_id"].max()))
            rows = _absent(Triplets, block.unique("triplet_id", keep="first", maintain_order=True), base, near)
            found.update(rows["file"])
            yield _with_files(rows, files).sort("query_id", "positive_id", "negative_id")
        for position, file in enumerate(files):
            file.triplets = found[position]
            file.duplicates = spill.triplets_per_file[position] - found[position]

    _forget_quarantined(tables, spill, files, lineage)
    _append(tables, QuarantinedRows, new_quarantined, lineage)
    triplets = _append(tables, Triplets, new_triplets, lineage, lambda: IntakeResult(ingested_files=tuple(files)))
    _append_files(tables, files, lineage)
    _print_counts(files)
    _print_reasons(spill)
    if triplets is None:
        raise UserError("no row of the input could become a triplet; expected at least one: see quarantined_rows")
    return triplets


def _forget_quarantined(tables: Tables, spill: Spill, files: list[FileCounts], lineage: Lineage) -> None:
    """Take out what an earlier reading said of these contents, where this one, told otherwise, takes more rows.

    The caller then appends what this reading says: a row that became a triplet is not counted as lost.
    """
    base = tables.latest("quarantined_rows")
    if base is None:
        return
    is_read = pl.col("source_sha256").is_in([file.sha256 for file in files])
    taken = base.scan().filter(is_read).select("source_sha256", "source_row").collect()
    for rows in spill.quarantined():
        taken = taken.join(_with_files(rows, files), on=taken.columns, how="anti")
    if len(taken):
        delete_rows(base, QuarantinedRows, taken.select("source_sha256"), lineage)


def record_missing_files(tables: Tables, config: Config) -> None:
    """Complete ingested_files after a run that ended between its last two commits.

    Raises:
        UserError: nothing can be added to a table that `append_new` adds to.
    """
    tables.check_writable("triplets", "quarantined_rows", "ingested_files")
    triplets = tables.latest("triplets")
    for version, intake in triplets.results(IntakeResult) if triplets is not None else ():
        recorded = tables.latest("ingested_files")
        lineage = Lineage("ingest", [version], config, note=f"completes {version}")
        if _append_files(tables, intake.ingested_files, lineage) == recorded:
            return
        tell(f"{version} was committed by a run that then ended: its files are now in ingested_files")


def _append(
    tables: Tables, table: type[Table], new_rows: NewRows, lineage: Lineage, result: Callable[[], Record] = Record
) -> TableVersion | None:
    """Commit the new rows, if there are any, on top of the version they were compared with; else that version."""
    while True:
        base = tables.latest(table.table_name())
        blocks = (block for block in new_rows(base) if len(block))
        first = next(blocks, None)
        if first is None:
            return base
        try:
            with new_version(tables, table, lineage, mode="append", expected=base) as version:
                for block in chain([first], blocks):
                    version.write(block)
                version.result = result()
            return version.version
        except VersionMoved:
            tell(f"{base or table.table_name()} has moved on meanwhile: comparing with the newer one")


def _absent(table: type[Table], rows: pl.DataFrame, base: TableVersion | None, near: pl.Expr) -> pl.DataFrame:
    """The rows whose key is not in `base`, of which only rows `near` are read."""
    if base is None:
        return rows
    key = table.key_columns()
    return rows.join(base.scan().filter(near).select(key).collect(), on=key, how="anti", maintain_order="left")


def _with_files(rows: pl.DataFrame, files: Sequence[FileCounts]) -> pl.DataFrame:
    """The rows with their file's path and sha256."""
    paths = pl.Series([file.path for file in files], dtype=pl.String)
    digests = pl.Series([file.sha256 for file in files], dtype=pl.String)
    return rows.with_columns(source_file=paths.gather(rows["file"]), source_sha256=digests.gather(rows["file"]))


def _append_files(tables: Tables, files: Sequence[IngestedFile], lineage: Lineage) -> TableVersion | None:
    rows = pl.DataFrame([file.model_dump() for file in files], schema=IngestedFiles.polars_schema())
    return _append(
        tables, IngestedFiles, lambda base: iter([_absent(IngestedFiles, rows, base, pl.lit(True))]), lineage
    )


def _print_counts(files: Sequence[FileCounts]) -> None:
    counted = ("rows", "quarantined", "triplets", "duplicates")
    sums = {name: sum(getattr(file, name) for file in files) for name in counted}
    total = FileCounts(path=f"{len(files):,} files", **sums)
    for file in [*files, total] if len(files) > 1 else files:
        tell(f"{file.path}: {file}")


def _print_reasons(spill: Spill) -> None:
    """Why rows were quarantined, the commonest reasons first, and where they are."""
    counts: Counter[str] = Counter()
    for rows in spill.quarantined():
        kinds = rows.select(pl.col("reasons").list.eval(pl.element().str.split("[").list.first()).list.unique())
        counts.update(kinds["reasons"].explode().to_list())
    if counts:
        told = first_of([f"{reason} in {count:,}" for reason, count in counts.most_common()], 5)
        command = '`python -m jobs query "SELECT * FROM quarantined_rows"`'
        tell(hints.completed(f"quarantined: {told}; the rows: {command}"))
