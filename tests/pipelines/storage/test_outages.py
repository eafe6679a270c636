"""An object store that fails for a while is waited for; what it did and failed to say is seen to be done."""

import pickle
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import obstore
import pytest

from pipelines.checkpoints.run_folder import LOCK, RunFolder
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, commit, new_version, replace_rows, write_file
from pipelines.storage.compact import CompactConfig, compact
from pipelines.storage.outages import OUTAGE_S, ArrowS3
from pipelines.storage.tags import add_tag
from schemas import Evaluations, Triplets
from tests import object_store
from tests.rows import frame_of

ROWS = frame_of(Triplets, *({"query": f"query {number}"} for number in range(6)))
LINEAGE = Lineage("ingest", [], Config())


def append(tables, rows):
    with new_version(tables, Triplets, LINEAGE) as writer:
        writer.write(rows)
    return writer.version


@pytest.fixture
def outage(bucket, monkeypatch):
    """Begins one, whenever it is called; gives the number of requests refused by then."""
    state = {"ends": 0.0, "refused": 0}

    def fault(request):
        if time.monotonic() >= state["ends"]:
            return None
        state["refused"] += 1
        return 503

    def begin():
        state["ends"] = time.monotonic() + object_store.OUTAGE_S
        return state

    with object_store.Proxy(fault).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield begin


def test_every_library_waits_until_it_is_over(bucket, outage):
    tables = Tables.at(f"{bucket}/outage")
    append(tables, ROWS[:2])

    file, record = write_file(tables, Triplets, ROWS[2:]), LINEAGE.commit(tables.invocation)
    uses = {
        "deltalake": lambda newest: tables.latest("triplets"),
        "pyarrow": lambda newest: write_file(tables, Triplets, ROWS[2:]),
        "polars": lambda newest: newest.scan().collect(),
        "obstore": lambda newest: obstore.put(tables.store("any"), "file", b"1", mode="create"),
        "a commit": lambda newest: commit(
            tables, Triplets, [file], record, mode="append", expected=tables.latest("triplets")
        ),
    }
    newest = tables.latest("triplets")
    before = outage()["refused"]
    with ThreadPoolExecutor(len(uses)) as pool:  # each for itself, through the same outage
        done = {name: pool.submit(use, newest) for name, use in uses.items()}
    assert {name: one.exception() for name, one in done.items()} == dict.fromkeys(uses)
    assert outage()["refused"] >= before + len(uses)

    assert tables.latest("triplets").scan().collect()["query"].sort().to_list() == ROWS["query"].to_list()


def test_one_that_does_not_end_is_told(bucket, outage, monkeypatch):
    tables = replace(Tables.at(f"{bucket}/outage"), outage_s=1.0)
    outage()

    with pytest.raises(OSError, match=r"503|non-2xx"):
        tables.latest("triplets")


@pytest.fixture
def loses(bucket, monkeypatch):
    """From when it is called, the first answer to a put of a file is lost whose path has these words."""
    lost = []

    def is_lost(request):
        if request.method == "PUT" and lost and lost[-1] in request.path:
            lost.append(lost.pop() + " is lost")
            return True
        return False

    with object_store.Proxy(loses=is_lost).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield lost


def test_a_commit_whose_answer_is_lost_stands_once(bucket, loses):
    tables = Tables.at(f"{bucket}/lost")
    evaluation = frame_of(Evaluations)

    for number in range(3):
        loses.append(f"_delta_log/{number:020}.json")
        assert append(tables, ROWS[2 * number : 2 * number + 2]).version == number
        assert "is lost" in loses[-1]
    loses.append("_delta_log/00000000000000000003.json")
    assert [one.after.version for one in compact(tables, ["triplets"], CompactConfig())] == [3]
    for number in range(2):
        loses.append(f"evaluations/_delta_log/{number:020}.json")
        replaced = replace_rows(tables, Evaluations, evaluation, ["model_id"], Lineage("evaluate", [], Config()))
        assert (replaced.version, len(replaced.scan().collect())) == (number, 1)

    assert all("is lost" in path for path in loses)
    assert tables.latest("triplets").version == 3
    assert tables.latest("triplets").scan().collect()["query"].sort().to_list() == ROWS["query"].to_list()


def test_a_lock_and_a_tag_whose_answer_is_lost_are_taken(bucket, loses):
    tables = Tables.at(f"{bucket}/claimed")
    version = append(tables, ROWS)

    loses.append(LOCK)
    with RunFolder(tables, "small").lock():
        assert "is lost" in loses[-1]
    loses.append("tags/")
    assert add_tag(version, "kept").version.version == "triplets@0"
    assert "is lost" in loses[-1]


def test_pyarrow_waits_in_another_process_too(bucket):
    """Ray Train is given the filesystem itself."""
    filesystem = Tables.at(bucket).filesystem()[0]
    again = pickle.loads(pickle.dumps(filesystem))
    assert type(again) is ArrowS3
    assert again == filesystem
    assert again.__reduce__()[1][0] == OUTAGE_S


def test_where_a_command_begins_an_address_that_is_silent_or_refuses_is_told_at_once(bucket, monkeypatch):
    tables = Tables.at(f"{bucket}/asked")
    assert tables.answering() is tables

    with object_store.Proxy(lambda request: 403).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(OSError, match=r"s3://.*/asked cannot be listed: .*403.*; check the root and AWS_"):
            tables.answering()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(OSError, match="cannot be listed"):
            tables.answering()
    assert time.monotonic() - began < 20, "30 s is what the library waits for an answer by itself"
