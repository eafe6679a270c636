"""Written chunks become part of a version unless another run has been there first."""

from pathlib import Path

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pairs import ChunkScorer, read_chunk
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, new_version, write_file
from pipelines.streaming.commits import Job, commit_group
from pipelines.streaming.pipeline import Operators
from schemas import ScoredTriplets, Triplets
from tests.rows import frame_of

TEACHER = "judge@0123456789ab"
TEXTS = [{"query": "red sea"}, {"query": "blue sky"}]


def test_a_chunk_that_another_run_has_overtaken_is_not_committed(ray_cluster, tmp_path):
    tables = Tables.at(str(tmp_path))
    with new_version(tables, Triplets, Lineage("ingest", [], Config())) as triplets:
        triplets.write(frame_of(Triplets, *TEXTS))
    operators = Operators(read_chunk, ChunkScorer, ScoredTriplets)
    job = Job(triplets.version, ScoreConfig(teacher="judge"), TEACHER, operators, {}, "query_id", "again")

    def written() -> dict[str, object]:
        file = write_file(tables, ScoredTriplets, frame_of(ScoredTriplets, *TEXTS, teacher=TEACHER))
        return {"lower": "000", "upper": "g", "base": -1, "num_errors": 0, **file._asdict()}

    mine, rivals = written(), written()
    assert commit_group(job, [rivals]) == 2
    assert commit_group(job, [mine]) == 0

    scored = tables.latest("scored_triplets").scan().collect()
    assert sorted(scored["query"]) == ["blue sky", "red sea"]
    assert not Path(tables.path("scored_triplets"), mine["path"]).exists()
    assert Path(tables.path("scored_triplets"), rivals["path"]).exists()
