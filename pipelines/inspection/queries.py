"""Questions to the tables that commands and the model card ask: what a curation did, SQL.

Each reads explicit or newest versions and gives a frame; nothing here writes or prints.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from pipelines.curation.outcomes import KEYS, curation_of, dropped_by, dropped_outcome, kept_outcome
from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion
from pipelines.storage.damage import find_damage, is_damage
from schemas import TABLES

FIRST_WORD = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w*)", re.DOTALL)
READS = {"SELECT", "WITH", "SHOW", "VALUES", "FROM"}
QUOTED = re.compile(r"""'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|"((?:[^"]|"")*)"|`([^`]*)`""", re.DOTALL)
READS_FILES = re.compile(r"\b(read_\w+)\s*\(", re.IGNORECASE)
SCAN = re.compile(r"^\s*(\w+ SCAN \[.*)", re.MULTILINE)
TWICE = re.compile(r"duplicate output name '(.*?)'")
UNKNOWN = re.compile(
    r"""(?:unable to find column|no column named) (["'])(?P<column>.*?)\1(?: found in table '(?P<owner>.*?)')?|"""
    r"""(?:relation|no table or struct column named) '(?P<table>.*?)'"""
)


def ask(tables: Tables, sql: str, at: Sequence[str] = (), limit: int | None = None) -> pl.DataFrame:
    """The answer to a SELECT over all tables: those named in `at` at that version, the others at their newest.

    A signal ends it at once, however long it would take: it is computed by a thread, since Python handles signals in
    the main one, which would not get to it before Polars is done.

    Args:
        limit: rows of the answer, the first ones; no more of the tables is read than these need.
    Raises:
        UserError: there is no table, the statement is no question, it reads more than the tables, or it fails; with
            what is near an unknown name.
    """
    frames = _frames(tables, sql, at)
    if not frames:
        tables.existing()  # raises where there is none
    first = FIRST_WORD.match(sql)
    if "\0" in sql or not first or first[1].upper() not in READS:
        found = f"{first[1].upper()} would change a table or is no question" if first and first[1] else "found no SQL"
        raise UserError(f"{found}, and query only reads; expected one SELECT")
    bare = QUOTED.sub(lambda quoted: quoted[1] or quoted[2] or " ", sql)  # without texts and comments
    if reads := READS_FILES.search(bare):  # Polars would open the file, or ask the address, to see its columns
        raise UserError(f"{reads[1]}() reads a file, and query the tables alone; expected one of {', '.join(frames)}")
    try:
        answer = pl.SQLContext(frames).execute(sql)
        beside = _read_beside(frames, answer)
        asked = answer if limit is None else answer.head(limit)
        if beside is None:
            return ThreadPoolExecutor(1).submit(asked.collect, engine="streaming").result()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        if is_damage(error) and (damage := find_damage(tables, [one for one in frames if _is_named(one, sql)])):
            raise UserError(f"{damage}, or use another root") from error
        raise _failed(str(error).partition("\n")[0].partition("; valid columns")[0], sql, frames) from error
    raise UserError(f"the query would read what is no table here ({beside}); expected one of {', '.join(frames)}")


def _read_beside(frames: Mapping[str, pl.LazyFrame], answer: pl.LazyFrame) -> str | None:
    """What of an answer's plan reads no table, but a file or an address: Polars' SQL has read_csv() and others."""
    known = {scan for frame in frames.values() for scan in SCAN.findall(frame.explain(optimized=False))}
    try:
        return next((scan for scan in SCAN.findall(answer.explain(optimized=False)) if scan not in known), None)
    except OSError as error:
        return str(error).partition("\n")[0]


def _failed(told: str, sql: str, frames: Mapping[str, pl.LazyFrame]) -> UserError:
    """A query's error; of an unknown name what is near it, and only if nothing is, what there is."""
    if version := re.search(r"\b([a-z_]+)@[0-9]+", sql):
        return UserError(
            f"the query failed: {told}; a version stands beside the SQL: FROM {version[1]}, --at {version[0]}"
        )
    if twice := TWICE.search(told):
        return UserError(
            f"two columns of the answer are called {twice[1]}; expected a name for each: COUNT(*) AS n, or query AS q"
        )
    unknown = UNKNOWN.search(told)
    if not unknown:
        return UserError(f"the query failed: {told}; expected SQL over {', '.join(frames)}")
    name, is_table = unknown["column"] or unknown["table"] or "", unknown["table"] is not None
    asked = [table for table in frames if re.search(rf"\b{table}\b", sql)]
    if owner := unknown["owner"]:  # a table, or its alias
        of_owner = rf"\s+(AS\s+)?{re.escape(owner)}\b"
        asked = [one for one in asked if one == owner or re.search(rf"\b{one}{of_owner}", sql, re.IGNORECASE)] or asked
    columns = {table: frames[table].collect_schema().names() for table in asked}
    known = list(frames) if is_table else [column for names in columns.values() for column in names]
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=3)
    there = " or ".join(f"a column of {table} ({', '.join(names)})" for table, names in columns.items())
    elsewhere = [] if is_table else [one for one in frames if name in TABLES[one].polars_schema()]
    if elsewhere:
        near = [f"FROM {' or '.join(elsewhere)}, which has it"]
    expected = " or ".join(near) if near else f"one of {', '.join(frames)}" if is_table or not there else there
    look = "SHOW TABLES" if is_table or not asked else f"SELECT * FROM {asked[0]} LIMIT 1"
    return UserError(f"the query failed: {told}; expected {expected}; to see it: `python -m jobs query '{look}'`")


def _frames(tables: Tables, sql: str, at: Sequence[str]) -> dict[str, pl.LazyFrame]:
    """The rows of each table by its name; one that cannot be read is left out where nobody asks for it.

    Raises:
        UserError: one that is asked for cannot be read, or is given at two versions.
    """
    given: dict[str, TableVersion] = {}
    for asked in map(tables.parse, at):
        if given.setdefault(asked.name, asked) != asked:
            raise UserError(f"--at {given[asked.name]} and --at {asked}: expected one version of a table")
    frames: dict[str, pl.LazyFrame] = {}
    for name in TABLES:
        is_asked_for = name in given or _is_named(name, sql)
        try:
            version = given.get(name) or tables.latest(name)
            if version and (is_asked_for or version.unreadable is None):
                frames[name] = version.scan()
        except (UserError, OSError):
            if is_asked_for:
                raise
    return frames


def _is_named(table: str, sql: str) -> bool:
    return bool(re.search(rf"\b{table}\b", sql, re.IGNORECASE))


def curation_counts(curated: TableVersion) -> pl.DataFrame:
    """Rows by source and outcome (kept, corrected, dropped) with the correction or reason; null for those kept.

    Where what was dropped cannot be read any more, its counts are those that the curation reported.
    """
    outcomes = [curated.scan().select("source", *kept_outcome())]
    dropped = dropped_by(curated)
    is_there = dropped is not None and dropped.unusable is None
    if dropped is not None and is_there:
        outcomes.append(dropped.scan().select("source", *dropped_outcome()))
    counts = pl.concat(outcomes).group_by(KEYS).agg(rows=pl.len().cast(pl.Int64)).collect(engine="streaming")
    if not is_there:
        reported = [one.model_dump() for one in curation_of(curated).counts if one.outcome == "dropped"]
        counts = pl.concat([counts, pl.DataFrame(reported, schema=counts.schema)])
    return counts.sort(KEYS).with_columns(pl.col("reason").replace("", None))
