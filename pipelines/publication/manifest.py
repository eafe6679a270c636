"""A model's manifest: from its weights back through table versions to the files that were ingested.

    models row --curated versions, vectors_version--> each version's commit --inputs--> ... --> ingested_files
                                                                  generated queries --> the files of their passages

A plain JSON document. Every version carries what its own commit says; user names and Ray job ids stay in the tables.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.checkpoints.models import refuse_if_lost, trained_from
from pipelines.curation.outcomes import part_of
from pipelines.inspection.queries import curation_counts
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import GenerationResult, Input
from schemas import IngestedFiles

FORMAT = "retrieval-model-manifest/1"
LOCK_FILE = Path(__file__).parents[2] / "infra" / "requirements.lock"
COMMIT_FIELDS = {"stage", "operation", "inputs", "config", "config_fingerprint", "recipe", "note", "code", "engine"}

Row = dict[str, Any]


def manifest_of(tables: Tables, model: Row, run: Row | None) -> Row:
    """The manifest of one row of the models table; `run` is what the training left beside the model, if it did."""
    inputs = inputs_of(tables, model)
    curated = [version for version in inputs if version.name == "curated_triplets"]
    versions = lineage_of(inputs)
    files = files_by_source(*_holding_all_rows(tables, versions, curated))
    return {
        "format": FORMAT,
        "model": {key: value for key, value in model.items() if key not in ("uri", "recipe", "code", "engine")},
        "config": json.loads(model["recipe"]),
        "code": json.loads(model["code"]),
        "engine": json.loads(model["engine"]),
        "run": run,
        "inputs": [str(version) for version in inputs],
        "versions": versions,
        "stages": stages_in(run),
        "curation": curation_counts(curated[0]).to_dicts(),
        "partial": {str(one): part for one in curated if (part := part_of(one))},
        "splits": _splits(curated[0]),
        "other_curations": {
            str(other): {"curation": curation_counts(other).to_dicts(), "splits": _splits(other)}
            for other in curated[1:]
        },
        "sources": files.group_by("source").agg("licence", "path").sort("source").to_dicts(),
        "generated": generated_in(tables, versions),
        "ingested_files": files.drop("source").unique().sort("path", "sha256").to_dicts(),
        "lock_file": lock_file(),
    }


def inputs_of(tables: Tables, model: Row) -> list[TableVersion]:
    """What a row of the models table was trained on: the curated versions, and the vectors version, if any.

    Raises:
        UserError: its rows cannot be read any more: nobody could answer for them, nor make the model again.
    """
    inputs = trained_from(tables, model)
    for version in inputs:
        refuse_if_lost(model["model_id"], version, "nobody could answer for its rows any more")
    return inputs


def lineage_of(versions: list[TableVersion]) -> list[Row]:
    """Each version and all it was made from, outputs before inputs, each once.

    Raises:
        UserError: an input is not the same data any more as when it was read.
    """
    found: dict[str, Row] = {}
    waiting = [(version, Input(**version.identity()), "") for version in versions]
    while waiting:
        version, identity, reader = waiting.pop(0)
        if version.identity() != identity.model_dump():
            raise UserError(
                f"{version} is {version.identity()} today, but {reader} was made from {identity.model_dump()}: the "
                "table was made anew. Publish from the root that the model was trained in, or train again"
            )
        if str(version) in found:
            continue
        commit = version.commit
        found[str(version)] = {**identity.model_dump(), **commit.model_dump(mode="json", include=COMMIT_FIELDS)}
        if version.unusable:
            found[str(version)]["unreadable"] = version.unusable
        elif version.rows_in() != version:
            found[str(version)]["rows_in"] = str(version.rows_in())
        if rows := version.num_erased():
            found[str(version)]["erased_rows"] = rows
        inputs = commit.inputs
        if version.version and commit.is_on_top:
            inputs = (Input(**TableVersion(version.tables, version.name, version.version - 1).identity()),)
        waiting += [(version.tables.parse(item.version), item, str(version)) for item in inputs]
    if gone := [name for name, one in found.items() if "unreadable" in one]:
        tell(f"publish: behind this model, these cannot be read any more, as its manifest says: {', '.join(gone)}")
    return list(found.values())


def stages_in(run: Row | None) -> list[Row]:
    """The training stages of a model's run.json: their data, how much of it, their figures and config."""
    stages = (run or {}).get("stages", ())
    shown = ("name", "steps", "seconds", "training_data", "config", "weights_sha256")
    return [{"curated": stage["curated"]["version"]} | {name: stage[name] for name in shown} for stage in stages]


def generated_in(tables: Tables, versions: list[Row]) -> list[Row]:
    """Of each version of generated queries behind a model: who wrote them, and for which files of passages."""
    found = [tables.parse(name) for one in versions if (name := one["version"]).startswith("generated_queries@")]
    results = [(str(version), version.commit.reports(GenerationResult)) for version in found]
    shown = {"path", "sha256", "source", "licence"}
    return [
        {
            "version": name,
            "generator": result.generator,
            "files": [file.model_dump(include=shown) for file in result.ingested_files],
        }
        for name, result in results
        if result
    ]


def _splits(curated: TableVersion) -> Row:
    return dict(curated.scan().group_by("split").len().sort("split").collect().iter_rows())


def _holding_all_rows(tables: Tables, versions: list[Row], curated: list[TableVersion]) -> list[TableVersion]:
    """The newest triplets version behind a model, to which all were added; where that is gone, what was trained on."""
    numbers = [int(name[9:]) for one in versions if (name := one["version"]).startswith("triplets@")]
    ingested = tables.parse(f"triplets@{max(numbers)}") if numbers else None
    return curated if ingested is None or ingested.unusable else [ingested]


def files_by_source(*versions: TableVersion) -> pl.DataFrame:
    """Each source of the versions' rows with each file its rows come from, as it stands in ingested_files.

    `source` is the rows' own; `file_source` is the name that the whole file was ingested under.
    """
    used = pl.concat(version.scan().select("source", path="source_file") for version in versions).unique()
    recorded = versions[0].tables.latest("ingested_files")
    known = recorded.scan() if recorded is not None else pl.LazyFrame(schema=IngestedFiles.polars_schema())
    return used.join(known.rename({"source": "file_source"}), on="path", how="left").sort("source", "path").collect()


def lock_file(path: Path = LOCK_FILE) -> Row | None:
    """Every package with its version, as text, and the text's sha256; None without a lock file."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return {"path": path.name, "sha256": hashlib.sha256(content).hexdigest(), "text": content.decode()}
