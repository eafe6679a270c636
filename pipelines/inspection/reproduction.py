"""Can a model be made again here, and is what was made the same? No training in here.

run.json of a model, or manifest.json of a published folder  --differences-->  what could change the weights
two folders  --distance-->  0.0 when their weights are the same bytes
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import fs

from pipelines.checkpoints.models import refuse_if_lost
from pipelines.checkpoints.run_folder import RUN, RunFolder
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import Code, Engine, Input
from pipelines.storage.lineage import code, engine

MANIFEST = "manifest.json"
BEGUN = "begun.json"  # beside the checkpoints while a model is trained: what began it
CHANGED = "changed_meanwhile"  # in run.json: what was another when a killed training went on


class Recorded(NamedTuple):
    """What a training left behind: run.json, and what a manifest knows beside it."""

    run: dict[str, Any]
    where: str

    def version(self, tables: Tables, role: str) -> TableVersion | None:
        """The version the model was trained on, still the same table; None when the model had no such input.

        Raises:
            UserError: its rows cannot be read any more, or the table was made anew.
        """
        recorded = self.run[role]
        return None if recorded is None else self._as_recorded(tables, recorded)

    def _as_recorded(self, tables: Tables, recorded: dict[str, Any]) -> TableVersion:
        version = tables.recorded(Input(**recorded))
        refuse_if_lost(self.where, version, "it cannot be made again here")
        if version.identity() != recorded:
            raise UserError(
                f"{self.where} was trained on {recorded}, but {tables.uri} now has {version.identity()}: the table was "
                f"made anew, or its log was changed. Give the root that the model was trained in with --tables"
            )
        return version

    def data(self, tables: Tables) -> tuple[TableVersion, TableVersion | None]:
        """The curated version and the vectors version, if any, as `version` finds them; said on stderr.

        So are the versions of other training stages, which are found by their numbers in the config.
        Where another program has put the rows into other files, the digest of the training data will prove them.
        """
        curated, vectors = self.version(tables, "curated"), self.version(tables, "vectors")
        assert curated is not None, "every model has a curated version"
        of_stages = [self._as_recorded(tables, stage["curated"]) for stage in self.run.get("stages", ())]
        by_name = {str(version): version for version in (curated, *of_stages, vectors) if version}
        versions = list(by_name.values())
        moved = [version for version in versions if version.rows_in() != version]
        state = {1: "it is as it was", 2: "both are as they were"}.get(len(versions), "all are as they were")
        if moved:
            state = "the same rows lie in other files now; that nothing else changed, the end will show"
        erased = [
            f"{rows:,} rows of {version} were erased since" for version in versions if (rows := version.num_erased())
        ]
        tell(f"{self.where} was trained on {' and '.join(map(str, versions))}: {'; '.join(erased) or state}")
        return curated, vectors

    def num_erased(self, tables: Tables) -> int:
        """Rows that were erased from its curated versions since they were written; else those from its vectors."""
        stages = [stage["curated"] for stage in self.run.get("stages", ())]
        names = {one["version"] for one in (self.run["curated"], *stages, self.run["vectors"]) if one}
        lost = {name: tables.parse(name).num_erased() for name in names}
        of_curated = sum(rows for name, rows in lost.items() if name.startswith("curated_triplets@"))
        return of_curated or sum(lost.values())


def recorded_run(tables: Tables, model: str) -> Recorded:
    """The record of a model by its name under the root, or of a published folder.

    Raises:
        UserError: neither is there.
    """
    folder = path_of(model, "--model")
    if (folder / MANIFEST).is_file():
        run = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("run")
        if run is None:
            raise UserError(f"{folder / MANIFEST} has no training record (`run`); publish the model again")
        return Recorded(run, str(folder))
    run = RunFolder(tables, model.partition("@")[0]).read(RUN) if "/" not in model else None
    if run is None:
        raise UserError(
            f"{model} is neither a trained model under {tables.uri} nor a published folder with {MANIFEST}; "
            f"`python -m jobs models` lists the models"
        )
    return Recorded(run, model)


def differences(run: dict[str, Any]) -> Iterator[str]:
    """What is not as it was and could change the weights, each with the way back."""
    then, now = Engine.model_validate(run["engine"]), engine()
    for name, version in then.libraries.items():
        if name in ("torch", "transformers", "sentence-transformers", "ray") and now.libraries.get(name) != version:
            yield f"{name} was {version}, is {now.libraries.get(name)}; to go back: pip install {name}=={version}"
    if then.python.split(".")[:2] != now.python.split(".")[:2]:
        yield f"Python was {then.python}, is {now.python}"
    for kind in ("machine", "processor"):
        if (was := getattr(then, kind)) != (now_is := getattr(now, kind)):
            yield f"the {kind} was {was!r}, is {now_is!r}; run on that kind of machine"
    sources = Code.model_validate(run["code"])
    if sources.sources_digest != code().sources_digest:
        back = f"; to go back: git checkout {sources.commit}" if sources.commit else ""
        yield f"the sources were {sources.sources_digest}, are {code().sources_digest}{back}"
    yield from (f"while it was trained, {change}" for change in run.get(CHANGED, ()))


def changed_since_begun(kept: Tables) -> list[str]:
    """What is not as it was when the training that keeps its checkpoints there began; said on stderr.

    It may change last bits: the weights are then those of no undisturbed training. The first call notes what is.
    """
    filesystem, folder = kept.filesystem()
    path = f"{folder}/{BEGUN}"
    if filesystem.get_file_info(path).type == fs.FileType.File:
        with filesystem.open_input_file(path) as file:
            changed = list(differences(json.loads(file.read())))
        for change in changed:
            tell(f"distill: since this training began, {change}: its weights may differ in last bits")
        return changed
    with filesystem.open_output_stream(f"{path}.unfinished") as file:
        file.write(json.dumps({"code": code().model_dump(), "engine": engine().model_dump()}).encode())
    filesystem.move(f"{path}.unfinished", path)
    return []


def data_differences(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Of two records of a training: whose data was not the same, and the first stage whose weights are not."""
    if "stages" not in then:
        if now["training_data"] != then["training_data"]:
            yield "the training data read was not the same"
        return
    stages = list(zip(then["stages"], now["stages"], strict=True))
    for old, new in stages:
        if new["training_data"] != old["training_data"]:
            yield f"the training data that stage {old['name']} read was not the same"
    for old, new in stages:
        if new["weights_sha256"] != old["weights_sha256"]:
            yield f"the weights differ from stage {old['name']} on"
            return


def distance(ours: Path, theirs: Path) -> float:
    """Largest absolute difference between the weights of two sentence-transformers folders; 0.0 for equal bytes.

    Raises:
        UserError: they have not the same weights by name and shape.
    """
    import torch
    from safetensors.torch import load_file

    left, right = (sorted(folder.rglob("*.safetensors")) for folder in (ours, theirs))
    if [path.read_bytes() for path in left] == [path.read_bytes() for path in right]:
        return 0.0
    tensors = [{k: v for path in paths for k, v in load_file(path).items()} for paths in (left, right)]
    if {k: v.shape for k, v in tensors[0].items()} != {k: v.shape for k, v in tensors[1].items()}:
        raise UserError(f"{ours} and {theirs} have not the same weights by name and shape: these are other models")
    gaps = [(tensors[0][name].double() - tensors[1][name].double()).abs().max() for name in tensors[0]]
    return float(torch.stack(gaps).max())
