"""What mine reads: (query, positive) pairs from files or BEIR folders, and what the whole input knows as positive.

All of it is held in memory. Of a BEIR folder the train judgements are mined, or else all; the others are known as well.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.intake.beir import BeirSet, qrels_names, read_beir
from pipelines.intake.formats import Input
from pipelines.intake.layouts import CheckedRow
from pipelines.intake.raw_rows import RawRow, in_batches
from pipelines.mining.passages import stripped_id
from pipelines.texts.ids import text_id


class Pair(NamedTuple):
    file: int
    source_row: int
    row: CheckedRow  # its negatives are not there yet


class Known(NamedTuple):
    """What the whole input says: query id -> query, and -> stripped ids of what may not be its negative."""

    queries: dict[str, str]
    forbidden: dict[str, set[str]]

    def add(self, query: str, positives: Iterable[str]) -> None:
        query_id = text_id(query)
        self.queries.setdefault(query_id, query)
        self.forbidden.setdefault(query_id, {stripped_id(query)}).update(map(stripped_id, positives))


def read_judgements(folder: str) -> Iterator[tuple[str, BeirSet]]:
    """Every qrels file of a BEIR folder, with the set as it judges."""
    for name in qrels_names(Path(folder, "qrels")):
        beir = read_beir(folder, name)
        if beir.complaint():
            print(beir.complaint(), file=sys.stderr)
        yield str(Path(folder, "qrels", beir.qrels_file)), beir


def is_mined(qrels: str) -> bool:
    """Train judgements, or all where there are none: whoever mines the test judgements cannot evaluate on them."""
    if Path(qrels).name.startswith("train.tsv"):
        return True
    if any(Path(qrels).parent.glob("train.tsv*")):
        return False
    print(f"{qrels} is mined, as its folder has no train judgements: don't evaluate on it", file=sys.stderr)
    return True


def judged_pairs(path: str, beir: BeirSet) -> Input:
    """A BEIR set's positive judgements as rows, counted from 1."""
    rows = (
        RawRow(
            number,
            {"query": beir.queries[query_id], "positive": beir.corpus[document_id]},
            raw=f"{query_id}\t{document_id}".encode(),
        )
        for number, (query_id, document_id) in enumerate(beir.positives(), 1)
    )
    return Input(path, ("query", "positive"), lambda _: in_batches(rows))


def known_positives(pairs: list[Pair], judgements: Iterable[BeirSet]) -> Known:
    """The pairs' queries; their positives, and those of judgements that are not mined."""
    known = Known({}, {})
    for pair in pairs:
        known.add(pair.row.query, pair.row.positives)
    for beir in judgements:
        for query_id, document_id in beir.positives():
            if text_id(beir.queries[query_id]) in known.queries:
                known.add(beir.queries[query_id], [beir.corpus[document_id]])
    return known
