"""Ray Train around the loop: workers, the node's token cache, checkpoints to storage, lines of progress back.

A run goes on by being run again with the same storage: Ray Train finds its last checkpoint there. Workers need no hub
and no shared disk beside that storage: they read the untrained student from it and tokenise from the tables.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from pyarrow import fs
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.run_folder import CHECKPOINTS, UNTRAINED, Json
from pipelines.stage.cluster import check_there_is
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.storage.lineage import engine
from pipelines.students.config import DistillConfig
from pipelines.students.data.dev_set import DEV_FILE, build_dev_set
from pipelines.students.data.token_cache import SUMMARY
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import load_student
from pipelines.students.training.loop import train_student
from pipelines.students.training.optimizer import NonFiniteLoss
from pipelines.students.training.sinks import Guarded, MetricsFile, ProgressLines, Sink, Training, find_sink
from pipelines.students.training.tensorboard import EventFiles

MakeSinks = Callable[[Path], list[Sink]]


def train_on_ray(
    curated: TableVersion,
    config: DistillConfig,
    vectors: TableVersion | None,
    kept: Tables,
    *,
    shown_as: tuple[str, Path | None] = ("", None),
) -> Any:
    """Ray Train to the end, or from its last checkpoint to the end.

    Args:
        kept: what all workers see: the untrained student, put there by the caller, and the checkpoints.
        shown_as: the model's name, for the config's sink; where TensorBoard's files can be seen while it trains.
    Returns:
        Ray's result: the last checkpoint holds the trained student, `return_value` what rank 0 tells of the run.
    """
    filesystem, path = kept.filesystem()
    use_gpu = _available("GPU") > 0 if config.use_gpu == "auto" else config.use_gpu
    kind = "GPU" if use_gpu else "CPU"
    told = f"distill: {config.num_workers} workers need a {kind} each"
    check_there_is(kind, config.num_workers, _available(kind), told, "distill.num_workers")
    with _printed_on_stderr() as lines:
        sinks = partial(_sinks, config, *shown_as, lines)
        trainer = TorchTrainer(
            partial(_train_on_one_rank, curated, config, vectors, kept, sinks),  # type: ignore[arg-type]  # it returns
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
            return ThreadPoolExecutor(max_workers=1).submit(trainer.fit).result()
        except ray.train.WorkerGroupError as error:
            for failure in error.worker_failures.values():
                if isinstance(failure, UserError | NonFiniteLoss):
                    raise failure from error
            raise


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
    queue, stop = Queue(actor_options={"num_cpus": 0}), threading.Event()

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
    return f"distill_{fingerprint_of([kept.uri, data, config.identity()])}"


def _sinks(config: DistillConfig, name: str, seen_in: Path | None, lines: Queue, folder: Path) -> list[Sink]:
    """What hears of the training, on rank 0, whose folder for checkpoints on their way this is."""
    sinks: list[Sink] = [MetricsFile(folder), ProgressLines(lines.put)]
    if seen_in is not None:
        sinks.append(Guarded("TensorBoard's writer", partial(EventFiles, seen_in), lines.put))
    if config.sink is not None:
        sink, training = config.sink, Training(name, config.model_dump(mode="json"))
        sinks.append(Guarded(f"the sink {sink}", lambda: find_sink(sink)(training), lines.put))
    return sinks


def _train_on_one_rank(
    curated: TableVersion, config: DistillConfig, vectors: TableVersion | None, kept: Tables, sinks: MakeSinks
) -> Json:
    """What each Ray Train worker runs; what it returns is the result's `return_value`."""
    context = ray.train.get_context()
    is_first_of_node = context.get_local_rank() == 0
    local = Path(tempfile.gettempdir()) / _cache_name(curated, config, vectors, kept)
    student = _fetched_student(kept)
    if not is_first_of_node:
        awaited = [local / SUMMARY, *([local / DEV_FILE] if config.dev_every_steps else [])]
        while not all(path.exists() for path in awaited):  # the first builds it; if it fails, Ray ends this worker too
            time.sleep(0.2)
    cache = build_token_cache(local, curated, student.tokenizer, config, vectors)  # opens one that is there
    dev = build_dev_set(local, curated, student.tokenizer, config) if config.dev_every_steps else None
    device = ray.train.torch.get_device()
    checkpoint = ray.train.get_checkpoint()
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
            dev=dev,
        )
    if is_first_of_node:
        shutil.rmtree(local)  # the last report was a barrier: every rank has read its last texts
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


def _report(step: int, folder: Path | None) -> None:
    """Hand a checkpoint to Ray Train, which copies it to the storage before this returns."""
    checkpoint = ray.train.Checkpoint.from_directory(str(folder)) if folder else None
    ray.train.report({"step": step}, checkpoint=checkpoint)
    if folder:
        shutil.rmtree(folder)
