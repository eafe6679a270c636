"""What a commit says about the version it made, typed: stage, inputs, config, code, engine, and the stage's result.

A `Commit` is read through `TableVersion.commit` alone. Every field has a default, so older commits load; what a newer
one says besides is passed over. A commit without our record is someone else's (Spark's OPTIMIZE, a repair by
delta-rs): its stage is "", its `operation` says what it did.
"""

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationInfo, field_validator

LINEAGE = "lineage"
"""The key of the commit's custom metadata under which the record stands as one JSON text."""

RESTORE = "RESTORE"
"""Delta's operation after which a version holds the rows of an older one."""

REARRANGING = {"add columns", "compact", "erase"}
"""Stages of ours, beside the flow, after which a version holds the rows of the one before: what is erased, that one
has lost as well."""


class Record(BaseModel):
    """Frozen; unknown fields are those of a newer commit."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Input(Record):
    """A version that was read: see TableVersion.identity."""

    version: str = ""
    table_id: str = ""
    digest: str = ""


class Code(Record):
    """Which sources ran."""

    commit: str = ""
    is_dirty: bool | None = None
    sources_digest: str = ""


class Engine(Record):
    """What could change a float: library versions, Python and the kind of machine."""

    python: str = ""
    machine: str = ""
    system: str = ""
    processor: str = ""
    libraries: dict[str, str] = {}


class IngestedFile(Record):
    """A row of ingested_files."""

    path: str = ""
    sha256: str = ""
    source: str = ""
    licence: str | None = None
    columns: str = ""
    rows: int = 0
    quarantined: int = 0
    triplets: int = 0
    duplicates: int = 0


class IntakeResult(Record):
    """Of ingest and mine, in the triplets table: the files that the rows came from."""

    ingested_files: tuple[IngestedFile, ...] = ()


class Generated(Record):
    """That a generator has a row for each passage of some files, or of so many of them."""

    generator: str = ""  # name@12hex
    files: tuple[str, ...] = ()  # sha256 of each, sorted
    passages: int = 0  # that have a row
    max_passages: int | None = None


class AskingResult(Record):
    """Of a stage that asks a model: a group of rows, or the completion."""

    rows: int = 0
    failures: int = 0  # rows with a reason why nothing came of them
    input_tokens: int | None = 0  # None: the endpoint did not say
    output_tokens: int | None = 0
    complete: Record | None = None


class GenerationResult(AskingResult):
    """Of generate."""

    generator: str = ""
    ingested_files: tuple[IngestedFile, ...] = ()  # of passages
    complete: Generated | None = None


class Judged(Record):
    """That a judge has a row for each pair that a selection takes of a version of scored triplets."""

    judge: str = ""  # name@12hex
    scored: Input = Input()
    teacher: str = ""
    selection: str = ""  # 12 hex digits over what chooses the pairs
    pairs: int = 0


class JudgingResult(AskingResult):
    """Of relabel."""

    judge: str = ""
    complete: Judged | None = None


class ScoringEngine(Record):
    """What computed scores: the kind of device and the libraries that compute on it."""

    device: str = ""
    libraries: dict[str, str] = {}


class Completion(Record):
    """That a teacher has scored all rows of a share of a triplets version's queries."""

    teacher: str = ""  # name@12hex
    teacher_kind: str = ""
    triplets: str = ""
    triplets_table_id: str = ""
    share: float = 1.0
    rows: int = 0


class ScoringResult(Record):
    """Of score: a group of chunks, or the completion."""

    teacher: str = ""
    engine: ScoringEngine = ScoringEngine()
    rows: int = 0
    errors: int = 0
    texts: tuple[IngestedFile, ...] = ()  # files of plain texts, whose vectors these are
    complete: Completion | None = None


class OutcomeCount(Record):
    """Rows of a source with one outcome: kept, corrected or dropped, and the correction or reason."""

    source: str = ""
    outcome: str = ""
    reason: str = ""
    rows: int = 0


class CurationResult(Record):
    """Of curate, equal in dropped_triplets and curated_triplets."""

    curation: str = ""  # 12 hex digits over inputs, config and teacher
    teacher: str = ""
    teacher_kind: str = ""
    evaluation_sets: tuple[str, ...] = ()
    counts: tuple[OutcomeCount, ...] = ()
    triplets: int = 0  # rows of the triplets version; 0 is not known

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Rows by outcome alone: `counts` may be very many."""
        yield from (("curation", self.curation), ("teacher", self.teacher))
        for outcome in dict.fromkeys(one.outcome for one in self.counts):
            yield outcome, sum(one.rows for one in self.counts if one.outcome == outcome)

    @property
    def part(self) -> str | None:
        """`28 of 2,800 triplets` where not all were scored; None where they were."""
        num_rows = sum(one.rows for one in self.counts)
        return f"{num_rows:,} of {self.triplets:,} triplets" if num_rows < self.triplets else None


class TrainingResult(Record):
    """Of distill."""

    model: str = ""
    training_data: dict[str, Any] = {}


class EvaluationResult(Record):
    """Of evaluate."""

    systems: dict[str, str] = {}  # model_id -> student, int8, binary, untrained, teacher or bm25
    not_measured: dict[str, str] = {}  # system -> why
    sizes: dict[str, dict[str, int]] = {}  # data set -> queries, passages
    overlap: tuple[dict[str, Any], ...] = ()


class ColumnsAdded(Record):
    """Of a commit that widens an older table before rows are added to it."""

    columns: tuple[str, ...] = ()


class ErasureResult(Record):
    """Of erase, in each table that lost rows."""

    erasure: str = ""  # 12 hex digits over the hashed external ids


RESULTS: dict[str, type[Record]] = {
    "ingest": IntakeResult,
    "mine": IntakeResult,
    "generate": GenerationResult,
    "relabel": JudgingResult,
    "score": ScoringResult,
    "curate": CurationResult,
    "distill": TrainingResult,
    "evaluate": EvaluationResult,
    "add columns": ColumnsAdded,
    "erase": ErasureResult,
}
"""Stage -> what its commits report."""

NO_RESULT = Record()

Result = TypeVar("Result", bound=Record)


class Commit(Record):
    """One commit's record."""

    id: str = ""  # of this one attempt: who was answered with an error sees whether it stands
    stage: str = ""  # "": not written by this system
    operation: str = ""  # Delta's own name for it, from the log
    changes_data: bool = False  # whether another program's commit says that the files it adds or removes change rows
    inputs: tuple[Input, ...] = ()
    config: dict[str, Any] = {}
    config_fingerprint: str = ""
    recipe: dict[str, Any] | None = None
    note: str = ""
    code: Code = Code()
    engine: Engine = Engine()
    user: str = ""
    ray_job: str = ""
    result: SerializeAsAny[Record] = NO_RESULT

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What made it from what; the recipe, the engine and the result are asked for by name."""
        yield from (("stage", self.stage), ("operation", self.operation))
        yield from (("inputs", [one.version for one in self.inputs]), ("note", self.note))
        yield "result", type(self.result)

    @field_validator("result", mode="before")
    @classmethod
    def _as_its_stage_reports(cls, value: Any, info: ValidationInfo) -> Any:
        kind = RESULTS.get(info.data.get("stage", ""), Record)
        return kind.model_validate(value) if isinstance(value, dict) else value

    @classmethod
    def of_log(cls, entry: Any, *, changes_data: bool = False) -> "Commit":
        """From the `commitInfo` of a log entry; what is not ours, whatever it is, is as good as none."""
        operation = str(entry.get("operation", "")) if isinstance(entry, dict) else ""
        try:
            return cls.model_validate({**json.loads(entry[LINEAGE]), "operation": operation})
        except (LookupError, ValueError, TypeError, RecursionError):
            return cls(operation=operation, changes_data=changes_data)

    def custom_metadata(self) -> dict[str, str]:
        """As it is written."""
        return {
            LINEAGE: json.dumps(self.model_dump(mode="json", exclude={"operation", "changes_data"}), ensure_ascii=False)
        }

    def reports(self, kind: type[Result]) -> Result | None:
        """The result if it is of this kind."""
        return self.result if isinstance(self.result, kind) else None

    @property
    def is_ours(self) -> bool:
        return bool(self.stage)

    @property
    def is_on_top(self) -> bool:
        """Whether the version was made of the one before it: rearranged by us, or touched by another program."""
        return self.keeps_rows or not self.is_ours

    @property
    def keeps_rows(self) -> bool:
        """Whether the version holds the rows of the one before it, arranged otherwise (Delta's `dataChange: false`)."""
        return self.stage in REARRANGING if self.is_ours else not self.changes_data
