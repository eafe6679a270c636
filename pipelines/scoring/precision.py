"""What `score.precision` auto is in a root, once for a teacher there: a teacher's name, and so its scores, hold it."""

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipelines.checkpoints.find import find
from pipelines.checkpoints.inspect import encoder_config
from pipelines.scoring.config import ScoreConfig
from pipelines.stage.progress import tell
from pipelines.storage import Tables
from pipelines.storage.commits import ScoringResult
from pipelines.streaming.pipeline import has_gpu
from pipelines.teachers.config import name_teacher


def settled(config: ScoreConfig, tables: Tables, connect: Callable[[], None] | None) -> ScoreConfig:
    """The config with what "auto" means in this root in its place.

    That is what this teacher has scored or encoded with here last. Else it is decided now: bf16 on GPUs, and on CPUs
    what is fastest on the driver's.

    Args:
        connect: connects to Ray, where it is to be decided; None for a dry run, which leaves it open, as float32.
    """
    if config.precision != "auto":
        return config
    choices = {name_teacher(choice): choice for choice in config.choices()}
    for table in ("scored_triplets", "teacher_vectors"):
        newest = tables.newest(table)
        for _, result in newest.results(ScoringResult) if newest else ():
            if result.teacher in choices:
                return choices[result.teacher]
    if connect is None:
        tell("score.precision is auto: whether it is bf16 or float32, the run decides, and so the teacher's name")
        return config.model_copy(update={"precision": "float32"})
    with ThreadPoolExecutor(max_workers=1) as beside:  # Ray takes seconds to start, and so does the import of torch
        beside.submit(importlib.import_module, "torch")
        connect()
    precision = "bf16" if has_gpu(config) else _fastest(config)
    tell(f"score: computes in {precision} (score.precision is auto)")
    return config.model_copy(update={"precision": precision})


def _fastest(config: ScoreConfig) -> str:
    from pipelines.stage.precision import fastest_on_cpu  # torch: a root that has scores needs none of it here

    encoder = encoder_config(find(config.teacher, config.teacher_revision))
    width = encoder.get("hidden_size") or encoder.get("dim") or encoder.get("d_model") or 0
    intermediate = encoder.get("intermediate_size") or encoder.get("hidden_dim") or encoder.get("d_ff") or 4 * width
    return fastest_on_cpu(width, intermediate, config.num_cpus)
