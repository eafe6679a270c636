"""A chunk with a teacher: failed rows are counted, another teacher is refused, each text has the vector of its kind."""

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.streams import PairStream, encode_texts
from pipelines.storage import QueryRange, Tables
from pipelines.streaming.pipeline import Chunk, Row, read_chunk, work, write_chunk
from pipelines.teachers.config import TeacherConfig, load_teacher, name_teacher
from pipelines.texts.ids import text_id
from schemas import TeacherVectors
from tests.scored_versions import scored_rows, write_triplets
from tests.tiny import poison, tiny_bi_encoder, tiny_cross_encoder


def written(tmp_path: Path, config: ScoreConfig, teacher: str) -> Row:
    rows = scored_rows([("red sea", "big fish", 0.0, "old king", 0.0), ("blue sky", "poison", 0.0, "cold ice", 0.0)])
    triplets = write_triplets(Tables.at(str(tmp_path / "tables")), rows)
    stream = PairStream(triplets, config, teacher, "again", 1.0)
    chunk = Chunk.of(read_chunk(Chunk(QueryRange("000", "g")).row(), stream))
    return write_chunk(work(chunk, partial(stream.actor, 1)), stream)


def test_a_row_the_teacher_cannot_score_is_written_and_counted(tmp_path):
    config = ScoreConfig(precision="float32", teacher=poison(tiny_cross_encoder(tmp_path / "judge")), max_tokens=64)

    chunk = Chunk.of(written(tmp_path, config, name_teacher(config)))

    assert (chunk.file.num_rows, chunk.counts) == (2, {"rows": 2, "errors": 1})


def test_a_worker_that_finds_another_teacher_refuses_and_writes_nothing(tmp_path):
    config = ScoreConfig(precision="float32", teacher=tiny_cross_encoder(tmp_path / "judge"), max_tokens=64)

    row = written(tmp_path, config, "judge@0123456789ab")

    assert row["refused"].startswith(f"a worker's copy of teacher {config.teacher} is {name_teacher(config)}, ")
    assert not (tmp_path / "tables" / "scored_triplets").exists()


def test_a_text_that_cannot_be_encoded_has_no_vector(tmp_path):
    folder = poison(tiny_bi_encoder(tmp_path / "encoder", prompts={"query": "what is ", "document": ""}))
    teacher = load_teacher(TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64))
    named = {text_id(text): text for text in ("red sea", "poison", "old king")}
    kinds = [("red sea", "query"), ("poison", "passage"), ("old king", "passage"), ("red sea", "passage")]
    texts = pl.DataFrame([{"text_id": text_id(text), "kind": kind, "text": text} for text, kind in kinds])

    vectors = encode_texts(texts, teacher)

    TeacherVectors.validate(vectors, lazy=True)
    written = {(named[row["text_id"]], row["kind"]): row["vector"] for row in vectors.to_dicts()}
    assert written.keys() == {*kinds} - {("poison", "passage")}
    for (text, kind), vector in written.items():
        np.testing.assert_allclose(vector, teacher.encode([text], kind)[0], atol=1e-6)
    assert np.abs(np.subtract(written["red sea", "query"], written["red sea", "passage"])).max() > 1e-3
