"""The tables, one module each: grain, key, units, checks. Nothing else in the repository declares a column.

How a column is added: schemas/README.md.
"""

from schemas.curated_triplets import CuratedTriplets
from schemas.dropped_triplets import DroppedTriplets
from schemas.evaluations import Evaluations
from schemas.generated_queries import GeneratedQueries
from schemas.ingested_files import IngestedFiles
from schemas.models import Models
from schemas.passage_judgements import PassageJudgements
from schemas.quarantined_rows import QuarantinedRows
from schemas.scored_triplets import ScoredTriplets
from schemas.table import Table
from schemas.teacher_vectors import TeacherVectors
from schemas.triplets import Triplets

TABLES: dict[str, type[Table]] = {
    table.table_name(): table
    for table in (
        IngestedFiles,
        GeneratedQueries,
        Triplets,
        QuarantinedRows,
        ScoredTriplets,
        TeacherVectors,
        PassageJudgements,
        CuratedTriplets,
        DroppedTriplets,
        Models,
        Evaluations,
    )
}

__all__ = [
    "TABLES",
    "CuratedTriplets",
    "DroppedTriplets",
    "Evaluations",
    "GeneratedQueries",
    "IngestedFiles",
    "Models",
    "PassageJudgements",
    "QuarantinedRows",
    "ScoredTriplets",
    "Table",
    "TeacherVectors",
    "Triplets",
]
