"""Vectors of texts: a query and a passage each by its own prompt, and none for a text that cannot be encoded."""

import numpy as np
import polars as pl

from pipelines.scoring.streams import encode_texts
from pipelines.teachers.config import TeacherConfig, load_teacher
from pipelines.texts.ids import text_id
from schemas import TeacherVectors
from tests.tiny import poison, tiny_bi_encoder


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
