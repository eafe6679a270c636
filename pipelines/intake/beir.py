"""Reads a BEIR folder: corpus.jsonl, queries.jsonl and qrels/*.tsv, each plain or gzip.

Title and text of a document are joined by a space. All texts are held in memory: about the folder's size on disk.
Anything that does not fit raises UserError with file, line, what was found and what was expected.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from pipelines.intake.raw_rows import numbered_lines, open_bytes
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of


@dataclass(frozen=True)
class BeirSet:
    """An evaluation set. Judgements that name a query or document that is not there are left out and counted."""

    name: str  # the folder's
    digest: str  # 12 hex digits over corpus, queries and the judgements that were read
    qrels_file: str  # "test.tsv"
    corpus: dict[str, str]  # document id -> title and text
    queries: dict[str, str]  # every query of the folder, judged in this split or not
    qrels: dict[str, dict[str, int]]  # query id -> document id -> grade; only queries with a grade above 0
    num_unknown_queries: int  # judgements whose query is not in queries.jsonl
    num_unknown_documents: int  # judgements whose document is not in corpus.jsonl

    @property
    def data_set(self) -> str:
        """As `evaluations` names it: beir/scifact@0123456789ab."""
        return f"beir/{self.name}@{self.digest}"

    def positives(self) -> Iterator[tuple[str, str]]:
        """(query id, document id) of every relevant document, in the files' order."""
        for query_id, grades in self.qrels.items():
            yield from ((query_id, document_id) for document_id, grade in grades.items() if grade > 0)

    def complaint(self) -> str:
        """One line about the judgements that were left out; empty when there are none."""
        if not self.num_unknown_queries and not self.num_unknown_documents:
            return ""
        return (
            f"{self.data_set}: qrels/{self.qrels_file} names queries that are not in queries.jsonl in "
            f"{self.num_unknown_queries:,} rows and documents that are not in corpus.jsonl in "
            f"{self.num_unknown_documents:,} rows; they were left out"
        )


def is_beir_folder(folder: str | Path) -> bool:
    """Whether the folder looks like one: it has a corpus file and a qrels folder."""
    folder = path_of(str(folder), "BEIR folder")
    corpora = Path(folder, "corpus.jsonl"), Path(folder, "corpus.jsonl.gz")
    return any(map(Path.is_file, corpora)) and Path(folder, "qrels").is_dir()


def read_beir(folder: str | Path, qrels: str | None = None) -> BeirSet:
    """Read one BEIR folder.

    Args:
        qrels: name of the judgements, "train" for qrels/train.tsv. If not given, test, or else the only one there.
    Raises:
        UserError: a file is missing or a line is not what the layout says.
    """
    folder = path_of(str(folder), "BEIR folder")
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; expected a BEIR folder with corpus.jsonl, queries.jsonl and qrels/")
    files = [_find(folder / "corpus.jsonl"), _find(folder / "queries.jsonl"), _find_qrels(folder / "qrels", qrels)]
    corpus, queries = _read_texts(files[0]), _read_texts(files[1])
    judgements = list(_read_qrels(files[2]))
    known = [judgement for judgement in judgements if judgement[0] in queries]
    grades: dict[str, dict[str, int]] = {}
    for query, document, grade in known:
        if document in corpus:
            grades.setdefault(query, {})[document] = grade
    judged = {query: of_query for query, of_query in grades.items() if max(of_query.values()) > 0}
    if not judged:
        raise UserError(
            f"{files[2]}: none of its {len(judgements):,} rows gives a score above 0 to a document of "
            f"{files[0].name} for a query of {files[1].name}; check that the three files belong together"
        )
    return BeirSet(
        name=folder.resolve().name,
        digest=_digest(files),
        qrels_file=files[2].name,
        corpus=corpus,
        queries=queries,
        qrels=judged,
        num_unknown_queries=len(judgements) - len(known),
        num_unknown_documents=sum(document not in corpus for _, document, _ in known),
    )


def _digest(files: list[Path]) -> str:
    """Over the uncompressed files, so that a gzip copy is the same set."""
    digest = hashlib.sha256()
    for file in files:
        with open_bytes(str(file), _compression(file)) as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:12]


def _find(file: Path) -> Path:
    for candidate in (file, file.with_name(f"{file.name}.gz")):
        if candidate.is_file():
            return candidate
    there = ", ".join(sorted(path.name for path in file.parent.iterdir())[:10]) if file.parent.is_dir() else ""
    raise UserError(f"{file} (or {file.name}.gz) is not there; {file.parent} holds: {there or 'nothing'}")


def qrels_names(folder: Path) -> list[str]:
    """The names of the judgements in a qrels folder: "train" for train.tsv or train.tsv.gz."""
    return sorted({path.name.removesuffix(".gz").removesuffix(".tsv") for path in folder.glob("*.tsv*")})


def _find_qrels(folder: Path, name: str | None) -> Path:
    """The judgements to read: the named ones, or test, or else the only ones."""
    there = qrels_names(folder)
    if name is None and "test" not in there and len(there) > 1:
        raise UserError(f"{folder} has no test.tsv but {', '.join(there)}; say which one to read")
    default = there[0] if there and "test" not in there else "test"
    return _find(folder / f"{name or default}.tsv")


def _compression(file: Path) -> str | None:
    return "gzip" if file.suffix == ".gz" else None


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of each line that is not blank; the place is file:line for messages."""
    place = ""
    try:
        for number, line in numbered_lines(str(file), _compression(file)):
            place = f"{file}:{number}"
            yield place, line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file}: not a whole gzip file ({error}); copy it again") from error


def _read_texts(file: Path) -> dict[str, str]:
    """Id -> title and text of a corpus or queries file."""
    texts: dict[str, str] = {}
    for place, line in _lines(file):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{place}: no JSON ({error.msg} at column {error.colno}): {line[:80]!r}") from error
        if not isinstance(row, dict):
            raise UserError(f'{place}: found a JSON {type(row).__name__}; expected an object with "_id" and "text"')
        title = _string(place, row, "title") if row.get("title") else ""
        key, text = _string(place, row, "_id"), _string(place, row, "text")
        if key in texts:
            raise UserError(f'{place}: "_id" {key!r} occurs a second time; expected unique ids: remove or rename one')
        texts[key] = f"{title} {text}".strip()
    if not texts:
        raise UserError(f'{file}: no line in it; expected one JSON object with "_id" and "text" a line')
    return texts


def _string(place: str, row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if field == "_id" and isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        found = f"{type(value).__name__} {value!r:.60}" if field in row else f"only {', '.join(row) or 'nothing'}"
        raise UserError(f'{place}: "{field}" should be a string; found {found}')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f'{place}: "{field}" has half a surrogate pair at {error.start}, no text; repair it') from error
    return value


def _read_qrels(file: Path) -> Iterator[tuple[str, str, int]]:
    """(query id, document id, grade) of each row; a header is skipped where there is one."""
    for number, (place, line) in enumerate(_lines(file)):
        cells = line.split("\t")
        if len(cells) != 3:
            expected = "three columns separated by tabs: query-id, corpus-id, score"
            raise UserError(f"{place}: {len(cells)} columns ({line[:80]!r}); expected {expected}")
        query, document, grade = (cell.strip() for cell in cells)
        try:
            yield query, document, int(grade)
        except ValueError as error:
            if number > 0:
                raise UserError(f"{place}: the score is {grade[:40]!r}; expected a whole number such as 1") from error
