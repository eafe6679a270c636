"""Train a model again from its versions: `identical`, or how far off."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jobs.options import RootOptions
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.paths import folder_of
from pipelines.stage.printable import counted

DIFFERS = 4
INTERRUPTED = "interrupted; the same command begins again, or where --output was given goes on from the last checkpoint"


def main(
    *,
    model: Annotated[str, Parameter("--model", help="NAME of the models table, or a published folder")],
    output: Annotated[str | None, Parameter("--output", help="keep the new model in this folder")] = None,
    root: RootOptions = RootOptions(),
) -> int:
    from jobs.cluster import check, connect
    from pipelines import distill
    from pipelines.checkpoints.run_folder import MODEL
    from pipelines.inspection.reproduction import data_differences, differences, distance, recorded_run
    from pipelines.students.checks import check_training
    from pipelines.students.config import DistillConfig

    tables = root.open()
    recorded = recorded_run(tables, model)
    curated, vectors = recorded.data(tables)
    num_erased = recorded.num_erased(tables)
    config = DistillConfig.of_run(recorded.run["config"], on_gpu=recorded.run["engine"]["device"] != "cpu")
    different = list(differences(recorded.run))
    told = [f"could change the weights: {difference}" for difference in different]
    print("\n".join(told) or "same sources, software and kind of machine", file=sys.stderr)
    kept = _new_folder(output) if output is not None else None
    check(**config.claims())
    try:
        check_training(curated, config, vectors)
    except UserError as error:
        if not num_erased:
            raise
        print(f"what is left cannot be trained on: {error}", file=sys.stderr)
        return _told_erased(num_erased)
    with tempfile.TemporaryDirectory() as scratch:
        folder = kept or Path(scratch)
        then, now = recorded.run, distill.train(curated, config, folder, vectors=vectors, connect=connect)
        if now["weights_sha256"] == then["weights_sha256"]:
            print(f"identical: {now['weights_sha256']}")
            return 0
        for line in data_differences(then, now):
            print(line, file=sys.stderr)
        old = Path(tables.path("models", then["name"], MODEL))
        far = f", largest difference of a weight {distance(folder / MODEL, old):.3g}" if old.is_dir() else ""
    if num_erased:
        return _told_erased(num_erased)
    why = f"; what could explain it: {'; '.join(different)}" if different else ""
    print(f"differs: weights {now['weights_sha256']}, expected {then['weights_sha256']}{far}{why}")
    return DIFFERS


def _told_erased(num_rows: int) -> int:
    print(f"not identical: {counted(num_rows, 'row')} erased")
    return DIFFERS


def _new_folder(output: str) -> Path:
    """The folder where training ends by writing. Raises UserError if it holds other things, or cannot be made."""
    folder = folder_of(output, "--output")
    check_writable(folder, "--output")
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if found not in ([], ["work"]):  # what an interrupted one leaves
        raise UserError(f"--output {output} holds other things ({first_of(found)}); expected a new folder")
    return folder
