"""A chunk of triplets with a teacher, through the operators: what fails costs only its own triplets, and is counted."""

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.streams import PairStream
from pipelines.stage.config import Config
from pipelines.storage import Lineage, QueryRange, Tables, new_version
from pipelines.streaming.pipeline import Chunk, ChunkActor, read_chunk, write_chunk
from pipelines.teachers.config import name_teacher
from schemas import Triplets
from tests.rows import frame_of
from tests.tiny import poison, tiny_cross_encoder

POISONED = frame_of(
    Triplets,
    {"query": "red sea", "positive": "big fish", "negative": "old king"},
    {"query": "blue sky", "positive": "poison", "negative": "cold ice"},
)


def test_a_pair_the_teacher_cannot_score_costs_only_its_own_triplets(tmp_path):
    config = ScoreConfig(teacher=poison(tiny_cross_encoder(tmp_path / "judge")), max_tokens=64)
    with new_version(Tables.at(str(tmp_path / "tables")), Triplets, Lineage("ingest", [], Config())) as triplets:
        triplets.write(POISONED)
    stream = PairStream(triplets.version, config, name_teacher(config), "again", 1.0)

    scored = ChunkActor(stream, 1)(read_chunk(Chunk(QueryRange("000", "g")).row(), stream))

    by_query = {row["query"]: row for row in Chunk.of(scored).frames[0].to_dicts()}
    assert by_query["red sea"]["scoring_error"] is None
    assert by_query["red sea"]["positive_score"] is not None
    assert by_query["blue sky"]["scoring_error"].startswith("positive: ")
    assert (by_query["blue sky"]["positive_score"], by_query["blue sky"]["negative_score"]) == (None, None)
    written = Chunk.of(write_chunk(scored, stream))
    assert (written.file.num_rows, written.counts) == (2, {"rows": 2, "errors": 1})


def test_a_worker_that_finds_another_teacher_refuses(tmp_path):
    config = ScoreConfig(teacher=tiny_cross_encoder(tmp_path / "judge"), max_tokens=64)
    with new_version(Tables.at(str(tmp_path / "tables")), Triplets, Lineage("ingest", [], Config())) as triplets:
        triplets.write(POISONED)
    stream = PairStream(triplets.version, config, "judge@0123456789ab", "again", 1.0)

    refused = write_chunk(ChunkActor(stream, 1)(read_chunk(Chunk(QueryRange("000", "g")).row(), stream)), stream)

    assert refused["refused"].startswith(f"a worker's copy of teacher {config.teacher} is {name_teacher(config)}, ")
