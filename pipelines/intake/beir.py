"""Reads a BEIR folder: corpus and queries (JSON Lines or Parquet, or a folder of such) and the judgements in qrels/.

Each may be gzip, but for Parquet. Title and text of a document are joined by a space. All texts are held in memory:
about the folder's size on disk. What does not fit raises UserError with file, line, what was found and was expected.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.intake.qrels import find_qrels, qrels_names, read_qrels
from pipelines.intake.raw_rows import open_bytes
from pipelines.intake.records import RECORD_ENDINGS, records, shown_files
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.texts.comparison import is_blank, same_texts

ID_NAMES = ("_id", "id", "doc_id", "docid", "corpus-id", "corpus_id", "query-id", "query_id", "qid", "pid")


@dataclass(frozen=True)
class BeirSet:
    """An evaluation set. What it names and does not hold, or what says nothing, is left out and counted."""

    name: str  # the folder's
    digest: str  # 12 hex digits over corpus, queries and the judgements that were read
    qrels_file: str  # "test.tsv"
    corpus: dict[str, str]  # document id -> title and text
    titles: dict[str, str]  # document id -> title, of documents that have one
    queries: dict[str, str]  # every query of the folder, judged in this split or not
    qrels: dict[str, dict[str, int]]  # query id -> document id -> grade; only queries with a grade above 0
    num_unknown_queries: int  # judgements whose query is not in the queries
    num_unknown_documents: int  # judgements whose document is not in the corpus
    num_blank_queries: int  # judgements whose query has no text

    @property
    def data_set(self) -> str:
        """As `evaluations` names it: beir/scifact@0123456789ab."""
        return f"beir/{self.name}@{self.digest}"

    def positives(self) -> Iterator[tuple[str, str]]:
        """(query id, document id) of every relevant document, in the files' order."""
        for query_id, grades in self.qrels.items():
            yield from ((query_id, document_id) for document_id, grade in grades.items() if grade > 0)

    def own_documents(self) -> dict[str, set[str]]:
        """Query id -> documents that are the query itself and not judged relevant: as an answer they tell nothing.

        A query's own document has its text, with or without the title, or its id, as in ArguAna. An id that is only a
        number is no sign: queries and documents may both be counted from 1.
        """
        queries = {query_id: self.queries[query_id] for query_id in self.qrels}
        untitled = {key: self.corpus[key][len(title) :] for key, title in self.titles.items()}
        same_id = ((key, key) for key in queries if key in self.corpus and not key.isdecimal())
        own: dict[str, set[str]] = {}
        for query_id, document_id in chain(same_id, same_texts(queries, self.corpus), same_texts(queries, untitled)):
            if self.qrels[query_id].get(document_id, 0) <= 0:
                own.setdefault(query_id, set()).add(document_id)
        return own

    def complaint(self) -> str:
        """One line about the judgements that were left out; empty when there are none."""
        counts = {
            f"name queries that are not there in {self.num_unknown_queries:,} rows": self.num_unknown_queries,
            f"name documents that are not there in {self.num_unknown_documents:,} rows": self.num_unknown_documents,
            f"name queries without a text in {self.num_blank_queries:,} rows": self.num_blank_queries,
        }
        told = " and ".join(text for text, count in counts.items() if count)
        return f"{self.data_set}: the judgements in qrels/{self.qrels_file} {told}; they were left out" if told else ""


class _Texts(NamedTuple):
    files: list[Path]
    texts: dict[str, str]  # id -> title and text
    titles: dict[str, str]


def is_beir_folder(folder: str | Path) -> bool:
    """Whether the folder looks like one: it has a corpus and a qrels folder."""
    folder = path_of(str(folder), "BEIR folder")
    return bool(_text_files(folder, "corpus")) and Path(folder, "qrels").is_dir()


def read_beir(folder: str | Path, qrels: str | None = None) -> BeirSet:
    """Read one BEIR folder.

    Args:
        qrels: name of the judgements, "train" for qrels/train.tsv. If not given, test, or else the only one there.
    Raises:
        UserError: a file is missing or a line is not what the layout says.
    """
    return next(_read_sets(path_of(str(folder), "BEIR folder"), qrels))


def read_all_judgements(folder: str | Path) -> Iterator[BeirSet]:
    """The folder as each of its judgements' files judges; the texts are read once."""
    return _read_sets(Path(folder), *(qrels_names(Path(folder, "qrels")) or ["test"]))


def _read_sets(folder: Path, *qrels: str | None) -> Iterator[BeirSet]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; expected a BEIR folder with corpus.jsonl, queries.jsonl and qrels/")
    corpus_files, query_files = _find_texts(folder, "corpus"), _find_texts(folder, "queries")
    judged = [find_qrels(folder / "qrels", name) for name in qrels]
    corpus, queries = _read_texts(corpus_files), _read_texts(query_files)
    digests = _digests([*corpus_files, *query_files])
    for files in judged:
        yield _judged_set(folder, corpus, queries, files, digests)


def _judged_set(folder: Path, corpus: _Texts, queries: _Texts, files: list[Path], digests: bytes) -> BeirSet:
    judgements = read_qrels(files)
    known = [one for one in judgements if one.query in queries.texts]
    asked = [one for one in known if not is_blank(queries.texts[one.query])]
    grades: dict[str, dict[str, int]] = {}
    for one in asked:
        if one.document in corpus.texts:
            grades.setdefault(one.query, {})[one.document] = one.grade
    judged = {query: of_query for query, of_query in grades.items() if max(of_query.values()) > 0}
    if not judged:
        raise UserError(
            f"{files[0]}: none of its {len(judgements):,} rows gives a score above 0 to a document of "
            f"{corpus.files[0].name} for a query of {queries.files[0].name}; check that the three files belong together"
        )
    return BeirSet(
        name=folder.resolve().name,
        digest=hashlib.sha256(digests + _digests(files)).hexdigest()[:12],
        qrels_file=files[0].name,
        corpus=corpus.texts,
        titles=corpus.titles,
        queries=queries.texts,
        qrels=judged,
        num_unknown_queries=len(judgements) - len(known),
        num_unknown_documents=sum(one.document not in corpus.texts for one in asked),
        num_blank_queries=len(known) - len(asked),
    )


def _digests(files: list[Path]) -> bytes:
    """Of the uncompressed files, so that a gzip copy is the same set."""
    digests = b""
    for file in files:
        with open_bytes(str(file)) as content:
            digests += hashlib.file_digest(content, "sha256").digest()
    return digests


def _text_files(folder: Path, stem: str) -> list[Path]:
    """corpus.jsonl or the like, or else the files in a folder corpus/; none where there is neither."""
    files = [path for ending in RECORD_ENDINGS if (path := folder / f"{stem}{ending}").is_file()]
    return files[:1] or sorted(path for path in (folder / stem).glob("[!._]*") if path.name.endswith(RECORD_ENDINGS))


def _find_texts(folder: Path, stem: str) -> list[Path]:
    if not (files := _text_files(folder, stem)):
        others = f"(or {stem}.jsonl.gz, {stem}.parquet, or a folder {stem} of such files)"
        raise UserError(f"{folder / stem}.jsonl {others} is not there; {folder} holds: {shown_files(folder)}")
    return files


def _read_texts(files: list[Path]) -> _Texts:
    """The texts of a corpus or of queries."""
    found = _Texts(files, {}, {})
    for place, row in chain.from_iterable(map(records, files)):
        title = _string(place, row, "title").lstrip() if row.get("title") else ""
        key = _string(place, row, next((name for name in ID_NAMES if name in row), "_id"))
        if key in found.texts:
            raise UserError(f'{place}: "_id" {key!r} occurs a second time; expected unique ids: remove or rename one')
        found.texts[key] = f"{title} {_string(place, row, 'text')}".strip()
        if title:
            found.titles[key] = title
    if not found.texts:
        raise UserError(f'{files[0]}: no line in it; expected one JSON object with "_id" and "text" a line')
    return found


def _string(place: str, row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if field in ID_NAMES and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        found = f"{type(value).__name__} {value!r:.60}" if field in row else f"only {', '.join(row) or 'nothing'}"
        raise UserError(f'{place}: "{field}" should be a string; found {found}')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f'{place}: "{field}" has half a surrogate pair at {error.start}, no text; repair it') from error
    return value
