"""`check`: each client of the root is tried, the teacher reached, the cluster asked; what is wrong is named."""

import json

import pytest

from jobs.check import Finding, table
from tests import object_store
from tests.in_process import run_jobs
from tests.tiny import tiny_cross_encoder

CLIENTS = [
    "pyarrow writes, reads and deletes",
    "obstore writes only where nothing is",
    "deltalake takes one of several commits at once",
    "polars reads a table",
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return tiny_cross_encoder(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def check(ray_cluster, capsys, teacher):
    def run(root, *words, teacher=teacher):
        settings = ["--set", f"score.teacher={json.dumps(teacher)}", *words]
        code = run_jobs("check", "--json", "--tables", root, *settings)
        rows = json.loads(capsys.readouterr().out)
        return code, {row["what"]: row["found"] for row in rows}, [row["what"] for row in rows if row["is_wrong"]]

    return run


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_where_all_is_well_it_says_so_and_leaves_nothing(place, check, tmp_path, request):
    root = tmp_path if place == "folder" else request.getfixturevalue("bucket")

    code, found, wrong = check(f"{root}/tables")

    assert (code, wrong) == (0, [])
    assert [found[client] for client in CLIENTS] == ["ok"] * 4
    assert found["the teacher is reached"].startswith("ok: ")
    assert found["GPUs"].startswith("0, on 0 of 1 nodes")
    if place == "folder":
        assert [path.name for path in tmp_path.rglob("_check*")] == []


def test_a_store_that_overwrites_in_silence_is_found(check, bucket, monkeypatch):
    """One without conditional writes: of two drivers that commit at once both would believe they had."""

    def without_conditions(request):
        del request.headers["If-None-Match"]
        return None

    with object_store.Proxy(without_conditions).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        code, found, wrong = check(f"{bucket}/silent")

    assert code == 1
    assert wrong == CLIENTS[1:3]
    assert "no conditional writes" in found[CLIENTS[1]]
    assert "no conditional writes" in found[CLIENTS[2]]


def test_keys_that_may_only_read_are_told(check, bucket, monkeypatch):
    def read_only(request):
        return 403 if request.method in ("PUT", "POST", "DELETE") else None

    with object_store.Proxy(read_only).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        code, found, wrong = check(f"{bucket}/read_only")

    assert code == 1
    assert wrong == CLIENTS
    assert "check the root, AWS_*" in found[CLIENTS[0]]
    assert object_store.SETTINGS["AWS_SECRET_ACCESS_KEY"] not in str(found)


def test_a_teacher_that_is_not_there_is_told(check, tmp_path):
    code, found, wrong = check(tmp_path / "tables", teacher=str(tmp_path / "none"))
    assert (code, wrong) == (1, ["the teacher is reached"])
    assert "there is no such folder" in found["the teacher is reached"]

    code, found, _ = check(tmp_path / "tables", teacher="nobody/has-this")
    assert code == 1
    assert "could not be fetched from the hub (HF_HUB_OFFLINE is set)" in found["the teacher is reached"]


def test_a_cluster_that_does_not_answer_is_told(check, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")

    code, found, wrong = check(tmp_path / "tables")

    assert (code, wrong) == (1, ["Ray answers"])
    assert "no Ray cluster answers at 127.0.0.1:9" in found["Ray answers"]


def test_what_is_wrong_is_told_to_its_end_on_one_line():
    long = "\n".join(["no such model"] * 30)

    _, fine, wrong = table([Finding("here", "a root", "ok"), Finding("node", "a teacher", long, is_wrong=True)]).split(
        "\n"
    )

    assert fine.split() == ["here", "a", "root", "ok"]
    assert wrong.endswith(f"  a teacher  wrong  {' '.join(long.split())}")
