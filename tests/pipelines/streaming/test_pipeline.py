"""How many actors a run asks for; that each chunk goes through them once is test_commits.py's."""

from pipelines.streaming.config import StreamConfig
from pipelines.streaming.pipeline import num_actors


def test_a_machine_has_the_room_it_has_and_a_cluster_may_bring_nodes_up(ray_cluster, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert num_actors(StreamConfig(use_gpu=False)) == 2
    assert num_actors(StreamConfig(use_gpu=False, max_actors=16)) == 2
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert num_actors(StreamConfig(use_gpu=False)) == 2
    assert num_actors(StreamConfig(use_gpu=True)) == 1
    assert num_actors(StreamConfig(use_gpu=True, max_actors=16)) == 16
