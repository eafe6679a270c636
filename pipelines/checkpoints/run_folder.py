"""models/NAME under the tables' root: who is training it, what it is a model of, the files that come out.

    models/NAME/  lock.json  identity.json  ray/ (while it trains)  tensorboard/  model/  metrics.jsonl
                  objective.safetensors (where the objective trained something)  run.json (last: it is whole)

The same code serves a local folder and S3: pyarrow copies files, and obstore makes the lock only where there is none.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import psutil
from filelock import FileLock, Timeout
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, S3Store
from pyarrow import fs
from pydantic import BaseModel, PositiveInt, ValidationError

from pipelines.checkpoints import files
from pipelines.stage.config import flat
from pipelines.stage.errors import UserError, describe
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.storage.outages import OUTAGE_S

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

LOCK, IDENTITY, RUN = "lock.json", "identity.json", "run.json"
MODEL, METRICS, TENSORBOARD = files.MODEL, files.METRICS, files.TENSORBOARD
OBJECTIVE, STATE = files.OBJECTIVE, files.STATE
WORK, UNTRAINED, CHECKPOINTS = "ray", "untrained", "checkpoints"  # while it trains: ray/untrained, ray/checkpoints
CARRIED, START = "carried", "start.json"  # of a training stage after another: see pipelines/students/stages.py
ENGINE = "engine.json"  # ray/engine.json: what of its config a run was free to choose, and took
LONGEST_NAME = 200  # bytes, of the 255 that a file's name may have
RENEW_S = 20  # a holder on another host shows that it is alive by touching its lock this often
STALE_S = RENEW_S + OUTAGE_S + 20  # a sign of life may be as late as a store that is waited for

Json = dict[str, Any]


class Holder(BaseModel):
    """Who holds a lock; what another program wrote there is nobody known."""

    id: str = ""  # of this one claim
    pid: PositiveInt | None = None
    host: str = "an unknown host"
    started: str | None = None


class RunFolder:
    """models/NAME: one run's, from its first claim on."""

    def __init__(self, tables: Tables, name: str) -> None:
        if not re.fullmatch(r"\w[\w.-]*", name) or len(name.encode()) > LONGEST_NAME:
            raise UserError(
                f"--name {name!r} cannot be a folder; expected letters, digits, dots, dashes, underscores, at most "
                f"{LONGEST_NAME} bytes"
            )
        self.name, self.uri, self._tables = name, tables.path("models", name), tables
        self.filesystem, root = tables.filesystem()
        self.path = f"{root}/models/{name}"

    def claim(self, identity: Json) -> None:
        """Make this the folder of one run. Raises UserError when another's is finished or has a checkpoint here."""
        found = self.read(IDENTITY)
        if found is not None and fingerprint_of(found) == fingerprint_of(identity):
            return
        if found is not None and self.has_trained():
            raise UserError(
                f"model {self.name} was begun with {_differences(found, identity)}. Choose another --name, give the "
                f"same data and config to go on with it, or delete {self.uri}"
            )
        self.forget_training()
        self.write(IDENTITY, identity)

    def has_trained(self) -> bool:
        """Whether a run got so far here that starting another would lose something."""
        kept = self.filesystem.get_file_info(
            fs.FileSelector(f"{self.path}/{WORK}", allow_not_found=True, recursive=True)
        )
        has_kept = any(found.base_name.startswith("checkpoint_") or found.base_name == START for found in kept)
        return has_kept or self.read(RUN) is not None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Nobody else trains this name meanwhile; a lock whose holder is dead is taken over."""
        with ExitStack() as stack:
            if isinstance(
                self.filesystem, fs.LocalFileSystem
            ):  # there the system's lock too, which dies with its holder
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(FileLock(Path(self.path).with_name(f".{self.name}.lock"), timeout=0))
                except Timeout as error:
                    raise UserError(
                        f"model {self.name} is being trained by another process; wait for it, stop it, or choose "
                        "another --name"
                    ) from error
            stack.enter_context(self._held())
            yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The lock that other hosts see."""
        pid = os.getpid()
        holder = Holder(id=uuid.uuid4().hex, pid=pid, host=socket.gethostname(), started=_process_start(pid))
        self._take(holder)
        stop = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(holder, stop), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            stop.set()
            renewing.join()
            self.filesystem.delete_file(f"{self.path}/{LOCK}")

    def holds(self, folder: str) -> bool:
        """Whether a folder of this name is here."""
        return bool(self.filesystem.get_file_info(f"{self.path}/{folder}").type == fs.FileType.Directory)

    def local(self, folder: str) -> Path | None:
        """A folder here as a path of this machine; None on S3."""
        return Path(self.path, folder) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def read(self, name: str) -> Json | None:
        """A JSON file of the folder; None when it is not there. Raises UserError for one that is damaged."""
        path = f"{self.path}/{name}"
        if self.filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        try:
            with self.filesystem.open_input_file(path) as file:
                content: Json = json.loads(file.read())
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}); expected JSON: bring it back from a copy, or move the folder "
                f"{self.path} away and train its model again"
            ) from error
        return content

    def write(self, name: str, content: Json) -> None:
        """A JSON file of the folder, whole or not at all: whoever is killed here leaves no half of one."""
        obstore.put(self._store(), name, json.dumps(content, indent=1).encode())

    def publish(self, trained: Path, run: Json) -> None:
        """Copy the trained folder here, `run.json` last, and remove what the training kept."""
        (trained / RUN).unlink(missing_ok=True)
        if self.read(RUN) is not None:  # of a model that is gone: it must not vouch for half of the new one
            self.filesystem.delete_file(f"{self.path}/{RUN}")
        if self.holds(TENSORBOARD):  # what could be seen while it trained
            self.filesystem.delete_dir(f"{self.path}/{TENSORBOARD}")
        fs.copy_files(str(trained), self.path, destination_filesystem=self.filesystem)
        self.write(RUN, run)
        self.forget_training()

    def forget_training(self) -> None:
        """Remove what a training kept to go on from; it may have been killed before it did."""
        if self.holds(WORK):
            self.filesystem.delete_dir(f"{self.path}/{WORK}")

    def _store(self) -> LocalStore | S3Store:
        return self._tables.store("models", self.name)

    def _take(self, holder: Holder) -> None:
        """Write the lock where there is none, or over a dead process's: of two rivals one wins."""
        is_local = isinstance(self.filesystem, fs.LocalFileSystem)
        store = self._store()
        mode: PutMode = "create"
        while True:
            try:
                obstore.put(store, LOCK, holder.model_dump_json().encode(), mode=mode)
                return
            except (AlreadyExistsError, PreconditionError):
                if _holds(store, holder):  # it did so, and failed to say it
                    return
                found = self._dead_lock(store)
                # this very lock, as S3 knows it; on a local disk FileLock keeps rivals out
                mode = "create" if found is None else "overwrite" if is_local else found

    def _renew(self, holder: Holder, stop: threading.Event) -> None:
        while not stop.wait(RENEW_S):
            try:
                self.write(LOCK, holder.model_dump())
            except (OSError, BaseError) as error:
                tell(f"the lock of {self.name} could not be renewed, and is tried again: {describe(error)}")

    def _dead_lock(self, store: LocalStore | S3Store) -> "UpdateVersion | None":
        """The version of a lock whose holder is dead; None when it is gone. Raises UserError when the holder lives."""
        try:
            found = obstore.get(store, LOCK)
        except FileNotFoundError:
            return None
        try:
            holder = Holder.model_validate_json(found.bytes().to_bytes())
        except ValidationError:  # killed while writing it, or writing it right now
            holder = Holder()
        if self._is_alive(holder):
            raise UserError(
                f"model {self.name} is being trained by process {holder.pid} on {holder.host}; wait for it, stop "
                "it, or choose another --name"
            )
        return {"e_tag": found.meta["e_tag"]}

    def _is_alive(self, holder: Holder) -> bool:
        if holder.host == socket.gethostname():
            return bool(holder.pid and _process_start(holder.pid) == holder.started is not None)
        tell(f"{self.name} is locked by {holder.host}: watching {STALE_S:.0f} s for a sign of life")
        before = self.filesystem.get_file_info(f"{self.path}/{LOCK}").mtime
        time.sleep(STALE_S)
        return bool(self.filesystem.get_file_info(f"{self.path}/{LOCK}").mtime != before)


def token_caches_of(curated: TableVersion) -> str:
    """How the names begin of all token caches made of a table's versions, in the temporary folder of each node."""
    return f"distill_{fingerprint_of(curated.identity()['table_id'])}_"


def _holds(store: LocalStore | S3Store, holder: Holder) -> bool:
    try:
        return obstore.get(store, LOCK).bytes().to_bytes() == holder.model_dump_json().encode()
    except FileNotFoundError:
        return False


def _process_start(pid: int) -> str | None:
    """When a process of this host started, so that a reused pid is told apart; None when there is none.

    In hundredths of a second since the host itself started: a clock that is set anew does not change it.
    """
    try:
        return str(round((psutil.Process(pid).create_time() - psutil.boot_time()) * 100))
    except psutil.NoSuchProcess:
        return None


def _differences(found: Json, wanted: Json) -> str:
    """`config.learning_rate 2e-05, not 3e-05; ...`: what differs between two identities."""
    old, new = flat(found), flat(wanted)
    differing = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    return "; ".join(f"{key} {old.get(key)}, not {new.get(key)}" for key in differing)
