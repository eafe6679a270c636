"""Ray Train around the loop: workers, the node's token cache, checkpoints to storage, lines of progress back.

A run goes on by being run again with the same storage: Ray Train finds its last checkpoint there. Workers need no hub
and no shared disk beside that storage: they read the untrained student from it and tokenise from the tables.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
import torch
from filelock import FileLock
from pyarrow import fs
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.run_folder import CARRIED, CHECKPOINTS, ENGINE, UNTRAINED, Json, token_caches_of
from pipelines.stage.cluster import check_there_is
from pipelines.stage.errors import UserError
from pipelines.stage.precision import fastest_on_cpu
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.storage.lineage import engine
from pipelines.students.config import DistillConfig
from pipelines.students.data.dev_set import build_dev_set
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import load_student
from pipelines.students.stages import Stage
from pipelines.students.training.kept import forget_damaged_list, last_whole_checkpoint, list_files
from pipelines.students.training.loop import train_student
from pipelines.students.training.not_finite import NonFinite
from pipelines.students.training.parallel_tokens import encode_on_node
from pipelines.students.training.sinks import Guarded, MetricsFile, ProgressLines, Sink, Training, find_sink
from pipelines.students.training.tensorboard import EventFiles

MakeSinks = Callable[[Path], list[Sink]]


def train_on_ray(stage: Stage, kept: Tables, *, shown_as: tuple[str, Path | None] = ("", None)) -> Any:
    """Ray Train to the end of one training stage, or from its last checkpoint to the end.

    Args:
        kept: what all workers see: the student that it starts from, put there by the caller, and the checkpoints.
        shown_as: the model's name, for the config's sink; where TensorBoard's files can be seen while it trains.
    Returns:
        Ray's result: the last checkpoint holds the trained student, `return_value` what rank 0 tells of the run.
    """
    config, (filesystem, path) = stage.config, kept.filesystem()
    forget_damaged_list(kept)
    last = last_whole_checkpoint(kept)  # one for all ranks, for where Ray Train knows of none
    use_gpu = _uses_gpu(config)
    kind = "GPU" if use_gpu else "CPU"
    told = f"{stage.place}: {config.num_workers} workers need a {kind} each"
    check_there_is(kind, config.num_workers, _available(kind), told, "distill.num_workers")
    with _printed_on_stderr() as lines:
        sinks = partial(_sinks, _told(stage, kept, *shown_as), stage, shown_as[1], lines)
        trainer = TorchTrainer(
            partial(_train_on_one_rank, stage, kept, lines, sinks, last),  # type: ignore[arg-type]  # it returns
            torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=3_600),
            scaling_config=ray.train.ScalingConfig(num_workers=config.num_workers, use_gpu=use_gpu),
            run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # typed as V1's, which V2 replaces on import
                name=CHECKPOINTS,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                worker_runtime_env={"env_vars": _worker_environment(config)},
            ),
        )
        try:
            # In a thread: fit() waits in compiled code, where a signal would be told when training has ended.
            result: Any = ThreadPoolExecutor(max_workers=1).submit(trainer.fit).result()
        except ray.train.TrainingFailedError as error:
            of_controller = getattr(error, "controller_failure", None)
            for failure in (of_controller, *getattr(error, "worker_failures", {}).values()):
                if isinstance(failure, OSError):  # a full disk, a storage that does not answer
                    raise failure from error
            raise
        if isinstance(result.return_value, UserError):
            raise result.return_value
        return result


def settled(config: DistillConfig, kept: Tables) -> DistillConfig:
    """The config with what "auto" means here in the engine's place, once for a run: what it began with is in `kept`.

    A run begun by an older commit, which kept nothing of the kind, goes on as that would have gone on.
    """
    filesystem, path = kept.filesystem()
    record = f"{path}/{ENGINE}"
    if filesystem.get_file_info(record).type == fs.FileType.File:
        with filesystem.open_input_file(record) as file:
            return config.settled(**json.loads(file.read()))
    begun = fs.FileSelector(f"{path}/{CHECKPOINTS}", allow_not_found=True)
    if any(found.base_name.startswith("checkpoint_") for found in filesystem.get_file_info(begun)):
        auto: Json = {"precision": "bf16" if _uses_gpu(config) else "float32", "unpadded": False}
    else:
        is_asked = any(stage.precision == "auto" for stage in config.training_stages())
        auto = {"precision": _fastest(config, kept) if is_asked else None, "unpadded": None}
    with filesystem.open_output_stream(record) as file:
        file.write(json.dumps(auto).encode())
    return config.settled(**auto)


def _fastest(config: DistillConfig, kept: Tables) -> str:
    """The precision for the untrained student in `kept`."""
    if _uses_gpu(config):
        return "bf16"
    filesystem, path = kept.filesystem()
    with filesystem.open_input_file(f"{path}/{UNTRAINED}/config.json") as file:
        student = json.loads(file.read())
    precision = fastest_on_cpu(student["hidden_size"], student["intermediate_size"], config.threads_per_worker)
    tell(f"distill: computes in {precision} (distill.precision is auto)")
    return precision


def _uses_gpu(config: DistillConfig) -> bool:
    return _available("GPU") > 0 if config.use_gpu == "auto" else config.use_gpu


def _worker_environment(config: DistillConfig) -> dict[str, str]:
    """What must be set before a worker's first import: threads, determinism, and an allocator that keeps its memory.

    glibc gives freed memory back at once and asks for it again at the next step: keeping it saves up to a quarter.
    """
    threads = str(config.threads_per_worker)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc accepts
    }


def _available(kind: str) -> float:
    return float(ray.cluster_resources().get(kind, 0))  # type: ignore[no-untyped-call]


@contextmanager
def _printed_on_stderr() -> Iterator[Queue]:
    """A queue whose lines are printed here as they come, whether or not Ray forwards what workers print."""
    here = ray.get_runtime_context().get_node_id()  # a node of workers may die, and the queue with it
    queue = Queue(actor_options={"num_cpus": 0, "label_selector": {"ray.io/node-id": here}})
    stop = threading.Event()

    def print_lines() -> None:
        while True:  # told to stop by this process, not through Ray, which may be gone by then
            try:
                tell(queue.get(timeout=0.5))
            except Empty:
                if stop.is_set():
                    return

    printing = threading.Thread(target=print_lines, daemon=True)
    printing.start()
    try:
        yield queue
    finally:
        stop.set()
        printing.join()
        queue.shutdown()


def _cache_name(curated: TableVersion, config: DistillConfig, vectors: TableVersion | None, kept: Tables) -> str:
    """The token cache's folder on each node: a killed training's is taken up only for the same data and config."""
    data = [curated.identity(), vectors.identity() if vectors else None]
    return f"{token_caches_of(curated)}{fingerprint_of([kept.uri, data, config.identity()])}"


def _told(stage: Stage, kept: Tables, name: str, seen_in: Path | None) -> Training:
    """What the config's sink is told of the training."""
    versions = {"curated": stage.curated, **({"vectors": stage.vectors} if stage.vectors else {})}
    data = {role: version.identity() for role, version in versions.items()}
    return Training(
        name=name,
        config=stage.config.identity(),
        data={f"{role}.{part}": value for role, told in data.items() for part, value in told.items()},
        place=stage.place,
        identity=fingerprint_of([kept.uri, data, stage.config.identity()]),
        folder=seen_in.parent if seen_in else None,
    )


def _sinks(training: Training, stage: Stage, seen_in: Path | None, lines: Queue, folder: Path) -> list[Sink]:
    """What hears of the training, on rank 0, whose folder for checkpoints on their way this is."""
    config = stage.config
    rated_in: Literal["queries", "texts"] = "texts" if config.data == "texts" else "queries"
    sinks: list[Sink] = [MetricsFile(folder), ProgressLines(lines.put, stage.place, rated_in)]
    if seen_in is not None:
        sinks.append(Guarded("TensorBoard's writer", partial(EventFiles, seen_in), lines.put))
    if config.sink is not None:
        sink = config.sink
        sinks.append(Guarded(f"the sink {sink}", lambda: find_sink(sink)(training), lines.put))
    return sinks


def _train_on_one_rank(
    stage: Stage, kept: Tables, lines: Queue, sinks: MakeSinks, last: ray.train.Checkpoint | None
) -> Json | UserError:
    """What each Ray Train worker runs; what it returns is the result's `return_value`.

    What would stop every rank again at the same place is returned: Ray Train would try again what is raised.
    """
    try:
        return _trained_on_one_rank(stage, kept, lines, sinks, last)
    except NonFinite as error:
        return error.of_version(str(stage.curated))
    except UserError as error:
        return error


def _trained_on_one_rank(
    stage: Stage, kept: Tables, lines: Queue, sinks: MakeSinks, last: ray.train.Checkpoint | None
) -> Json:
    """Build or open the token cache, train, and tell of it; `last` is gone on from if Ray Train has no checkpoint."""
    place, curated, vectors, config = stage
    context = ray.train.get_context()
    local = Path(tempfile.gettempdir()) / _cache_name(curated, config, vectors, kept)
    student = _fetched_student(kept)
    with FileLock(f"{local}.lock"):  # the first builds it; the lock dies with its holder
        cache = build_token_cache(  # opens one that is there
            local, curated, student.tokenizer, config, vectors, encode_all=encode_on_node
        )
        dev = build_dev_set(local, curated, student.tokenizer, config) if config.dev_every_steps else None
    if (kept_out := cache.summary.get("texts_kept_out")) and context.get_world_rank() == 0:
        lines.put(f"distill: {kept_out:,} texts are kept out: dev or test queries, or of an evaluation set")
    device = ray.train.torch.get_device()
    checkpoint = ray.train.get_checkpoint() or last
    with tempfile.TemporaryDirectory() as folder, checkpoint.as_directory() if checkpoint else nullcontext() as resumed:
        summary = train_student(
            student,
            cache,
            config,
            folder=Path(folder),
            device=device,
            resume_from=Path(resumed) if resumed else None,
            on_checkpoint=_report,
            sinks=sinks(Path(folder)),
            place=place,
            carried=_fetched_carried(kept, Path(folder, CARRIED)),
            dev=dev,
        )
    if context.get_local_rank() == 0:  # the last report was a barrier: every rank has read its last texts
        shutil.rmtree(local, ignore_errors=True)  # nodes on one machine share it
    return {
        **{name: value for name, value in summary._asdict().items() if value is not None},
        "training_data": cache.summary | ({"dev": dev.summary} if dev else {}),
        "num_workers": context.get_world_size(),
        "threads_per_worker": config.threads_per_worker,
        "engine": {
            **engine().model_dump(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "workers": context.get_world_size(),
            "threads": torch.get_num_threads(),
        },
    }


def _fetched_student(kept: Tables) -> SentenceTransformer:
    filesystem, path = kept.filesystem()
    with tempfile.TemporaryDirectory() as folder:
        fs.copy_files(f"{path}/{UNTRAINED}", folder, source_filesystem=filesystem)
        return load_student(folder)


def _fetched_carried(kept: Tables, folder: Path) -> Path | None:
    """What the training stage before kept beside its model, in a new folder; None where there was none."""
    filesystem, path = kept.filesystem()
    if filesystem.get_file_info(f"{path}/{CARRIED}").type != fs.FileType.Directory:
        return None
    folder.mkdir()
    fs.copy_files(f"{path}/{CARRIED}", str(folder), source_filesystem=filesystem)
    return folder


def _report(step: int, folder: Path | None) -> None:
    """Hand a checkpoint to Ray Train, which copies it to the storage before this returns."""
    if folder:
        list_files(folder)
    checkpoint = ray.train.Checkpoint.from_directory(str(folder)) if folder else None
    ray.train.report({"step": step}, checkpoint=checkpoint)
    if folder:
        shutil.rmtree(folder)
