"""Relevance judgements in whatever form people keep them, each pair once.

    qrels/ --find_qrels--> the files of test, or train ..  --read_qrels--> judgements

Columns (TSV with a header in any order or none, CSV, TREC's `query 0 document grade`) or JSON Lines, plain or gzip, or
Parquet. A header names its columns; without one they are query, document, grade. A file that fits none is refused.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pipelines.intake.records import RECORD_ENDINGS, lines, records, shown_files
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell

_COLUMNS = (".tsv", ".txt", ".trec", ".qrels", ".qrel", ".csv")
QRELS_ENDINGS = (*(f"{ending}{packed}" for ending in _COLUMNS for packed in ("", ".gz")), *RECORD_ENDINGS)
QRELS_NAMES = (  # of query, document and grade, in lower case, "-" and " " as "_"
    "query_id queryid qid q_id topic_id topic query".split(),
    "corpus_id corpusid doc_id docid document_id passage_id pid docno document doc passage".split(),
    "score grade relevance rel label relevance_label judgment judgement".split(),
)
EXPECTED = (
    "three columns separated by tabs: query-id, corpus-id, score (or below a header that names them, or TREC's four)"
)


class Judgement(NamedTuple):
    place: str  # file:line
    query: str
    document: str
    grade: int  # 0 for what TREC grades below


def qrels_name(file: Path) -> str | None:
    """ "train" for train.tsv, train.tsv.gz or train-00000-of-00001.parquet; None for what holds no judgements."""
    ending = next((ending for ending in QRELS_ENDINGS if file.name.endswith(ending)), None)
    return re.sub(r"-\d+-of-\d+$", "", file.name.removesuffix(ending)) if ending else None


def qrels_names(folder: Path) -> list[str]:
    """The names of the judgements in a qrels folder."""
    return sorted({name for path in folder.glob("[!._]*") if path.is_file() and (name := qrels_name(path))})


def find_qrels(folder: Path, name: str | None) -> list[Path]:
    """The judgements to read: the named ones, or test, or else the only ones. Of several forms the first is read."""
    there = qrels_names(folder)
    if name is None and "test" not in there and len(there) > 1:
        raise UserError(f"{folder} has no test.tsv but {', '.join(there)}; say which one to read")
    wanted = name or (there[0] if there and "test" not in there else "test")
    files = sorted(path for path in folder.glob("[!._]*") if path.is_file() and qrels_name(path) == wanted)
    by_ending = [[path for path in files if path.name.endswith(ending)] for ending in QRELS_ENDINGS]
    if not any(by_ending):
        raise UserError(
            f"{folder / wanted}.tsv is not there, nor {wanted} with another of the endings "
            f"{' '.join(QRELS_ENDINGS)}; {folder} holds: {shown_files(folder)}"
        )
    chosen = next(filter(None, by_ending))
    if others := [path.name for path in files if path not in chosen]:
        tell(f"{folder}: {chosen[0].name} is read, {', '.join(others)} are not: judgements of the same name")
    return chosen


def read_qrels(files: list[Path]) -> list[Judgement]:
    """Every pair once. Raises UserError where a pair is judged twice, and not alike."""
    judgements: dict[tuple[str, str], Judgement] = {}
    for place, (query, document, grade) in chain.from_iterable(map(_qrels_rows, files)):
        new = Judgement(place, query.strip(), document.strip(), _grade(place, grade))
        old = judgements.setdefault((new.query, new.document), new)
        if old.grade != new.grade:
            raise UserError(
                f"{place} gives document {new.document!r} the score {new.grade} for query {new.query!r}, "
                f"{old.place} gave {old.grade}; expected one judgement of each pair: remove one of the lines"
            )
    return list(judgements.values())


def _grade(place: str, grade: str) -> int:
    try:
        value = float(grade)
    except ValueError:
        value = 0.5
    if not value.is_integer():
        raise UserError(
            f"{place}: the score is {grade[:40]!r}; expected a whole number such as 1; if this line is a header, one "
            "that names query-id, corpus-id and score"
        )
    return max(0, int(value))


def _qrels_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(place, [query id, document id, grade]) of each row."""
    return _record_rows(file) if file.name.endswith(RECORD_ENDINGS) else _column_rows(file)


def _record_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    for place, row in records(file):
        order, values = _order(list(row)), list(row.values())
        if order is None or not all(isinstance(values[column], str | int | float) for column in order):
            raise UserError(f"{place}: found {str(row)[:120]}; expected query-id, corpus-id and score")
        yield place, [str(values[column]) for column in order]


def _column_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    order: Sequence[int] | None = None
    width = 0
    for place, line in lines(file):
        cells = _cells(line, is_csv=".csv" in file.suffixes)
        if width == 0:  # the first line
            header = _order(cells)
            width, order = len(cells), header or {3: (0, 1, 2), 4: (0, 2, 3)}.get(len(cells))
            if header:
                continue
        if order is None or len(cells) != width:
            raise UserError(f"{place}: {len(cells)} columns ({line[:80]!r}); expected {EXPECTED}")
        yield place, [cells[column] for column in order]


def _cells(line: str, *, is_csv: bool) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    if is_csv:
        return next(csv.reader([line]))
    cells = line.split()
    return cells if len(cells) == 4 else [line]  # with three, an id may be what holds the space


def _order(names: Sequence[str]) -> list[int] | None:
    """Which of the columns hold query, document and grade; None where these are not their names."""
    names = [re.sub(r"[- ]", "_", name.strip().lower()) for name in names]
    found = [next((names.index(name) for name in role if name in names), None) for role in QRELS_NAMES]
    return [column for column in found if column is not None] if None not in found else None
