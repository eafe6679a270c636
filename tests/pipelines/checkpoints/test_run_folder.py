"""The lock of models/NAME: neither stolen from a living process nor kept by a dead one."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from pipelines.checkpoints import run_folder
from pipelines.checkpoints.run_folder import LOCK, MODEL, RUN, Holder, RunFolder
from pipelines.stage.errors import UserError
from pipelines.storage import Tables


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(Tables.at(str(tmp_path)), "small")


def test_the_lock_names_its_holder_and_is_gone_afterwards(folder):
    with folder.lock():
        holder = folder.read(LOCK)

    assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
    assert folder.read(LOCK) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the start as /proc tells it, so on Linux")
def test_a_lock_is_kept_while_its_process_lives_and_taken_over_when_it_is_dead(folder):
    with subprocess.Popen(["sleep", "60"]) as holder:
        started = Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[19]  # as 2bb8cc9 wrote it
        folder.write(LOCK, {"pid": holder.pid, "host": socket.gethostname(), "started": started})
        with pytest.raises(UserError, match=f"trained by process {holder.pid} on"), folder.lock():
            pass
        holder.kill()

    with folder.lock():
        assert folder.read(LOCK)["pid"] == os.getpid()


def test_a_lock_of_another_host_is_taken_over_only_without_a_sign_of_life(folder, monkeypatch, capsys):
    monkeypatch.setattr(run_folder, "RENEW_S", 0.05)
    monkeypatch.setattr(run_folder, "STALE_S", 0.5)
    elsewhere = Holder(pid=1, host="elsewhere", started="5")
    folder.write(LOCK, elsewhere.model_dump())
    stop = threading.Event()
    renewing = threading.Thread(target=folder._renew, args=(elsewhere, stop))
    renewing.start()
    try:
        with pytest.raises(UserError, match="trained by process 1 on elsewhere"), folder.lock():
            pass
    finally:
        stop.set()
        renewing.join()

    with folder.lock():
        assert folder.read(LOCK)["pid"] == os.getpid()
    assert "small is locked by elsewhere: watching" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"pid": "x"}', '{"pid": -1, "host": "HERE"}', "\0"])
def test_a_lock_that_says_nothing_of_use_is_taken_over(folder, monkeypatch, content):
    monkeypatch.setattr(run_folder, "STALE_S", 0.1)
    Path(folder.path).mkdir(parents=True)
    Path(folder.path, LOCK).write_text(content.replace("HERE", socket.gethostname()))

    with folder.lock():
        assert folder.read(LOCK)["pid"] == os.getpid()


def test_a_copy_that_breaks_off_leaves_no_record_that_would_vouch_for_it(folder, tmp_path):
    trained = tmp_path / "trained"
    (trained / MODEL).mkdir(parents=True)
    (trained / MODEL / "config.json").write_text("{}")
    folder.write(RUN, {"weights_sha256": "of a model that is gone"})
    Path(folder.path, MODEL).write_text("in the way")

    with pytest.raises(OSError, match="Cannot create directory"):
        folder.publish(trained, {"weights_sha256": "new"})

    assert folder.read(RUN) is None
    Path(folder.path, MODEL).unlink()
    folder.publish(trained, {"weights_sha256": "new"})
    assert folder.read(RUN) == {"weights_sha256": "new"}


@pytest.mark.parametrize("content", ["", '{"weights_sha256": "6'])
def test_a_damaged_file_is_named_with_what_to_do(folder, content):
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    Path(folder.path, "run.json").write_text(content)

    with pytest.raises(UserError, match=r"run\.json is damaged .*: bring it back from a copy, or move the folder"):
        folder.read("run.json")
