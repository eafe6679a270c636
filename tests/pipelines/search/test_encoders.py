"""A student's vectors with its own prompts, a teacher's with those that are stored, a corpus a block at a time."""

import numpy as np
import polars as pl
from sentence_transformers import SentenceTransformer

from pipelines.search.encoders import FIRST_BLOCK, PASSAGES_PER_BLOCK, StoredVectors, StudentEncoder, passage_blocks
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, new_version
from pipelines.teachers.config import TeacherConfig, load_teacher
from pipelines.texts.ids import text_id
from schemas import TeacherVectors
from tests.tiny import tiny_bi_encoder


class Numbers:
    """Encodes a text that is a number as that number."""

    def encode(self, texts, kind, /):
        assert kind == "passage"
        return np.array([[float(text)] for text in texts], dtype=np.float32)


def test_a_student_encodes_with_its_own_prompts(tmp_path):
    folder = tiny_bi_encoder(tmp_path, prompts={"query": "what is ", "document": "passage "})
    encoder = StudentEncoder(SentenceTransformer(folder, device="cpu"), batch_size=2)
    plain = SentenceTransformer(folder, device="cpu")
    texts = ["king", "blue fish in the sea", "a"]

    for kind, prompt in [("query", "what is "), ("passage", "passage ")]:
        expected = plain.encode([prompt + text for text in texts])
        np.testing.assert_allclose(encoder.encode(texts, kind), expected, atol=1e-5)


def test_passages_come_in_their_order_one_block_at_a_time(capsys):
    passages = [str(number) for number in range(3 * PASSAGES_PER_BLOCK)]

    blocks = list(passage_blocks(Numbers(), passages, "mine: encoding"))

    assert np.concatenate(blocks)[:, 0].tolist() == list(range(3 * PASSAGES_PER_BLOCK))
    assert [len(block) for block in blocks[:3]] == [FIRST_BLOCK, 2 * FIRST_BLOCK, 4 * FIRST_BLOCK]
    assert max(map(len, blocks)) == PASSAGES_PER_BLOCK
    assert "mine: encoding: 6,000 of 6,000 passages" in capsys.readouterr().err


def test_a_teachers_stored_vectors_are_taken_and_the_others_encoded_in_the_texts_order(tmp_path):
    folder = tiny_bi_encoder(tmp_path / "teacher")
    teacher = load_teacher(TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64))
    first, second = np.eye(teacher.dimension, dtype=np.float32)[:2]
    rows = [
        (text_id("blue fish"), teacher.name, "passage", first, 0, None),
        (text_id("king"), teacher.name, "query", second, 0, None),
        (text_id("king"), "another@000000000000", "passage", second, 0, None),
    ]
    with new_version(Tables.at(str(tmp_path)), TeacherVectors, Lineage("score", [], Config())) as stored:
        stored.write(pl.DataFrame(rows, TeacherVectors.polars_schema(), orient="row"))

    vectors = StoredVectors(teacher, stored.version).encode(["king", "blue fish", "king"], "passage")

    king = teacher.encode(["king"], "passage")[0]
    np.testing.assert_allclose(vectors, [king, first, king], atol=1e-6)
    strange = StoredVectors(teacher, stored.version).encode(["old river"], "query")
    np.testing.assert_allclose(strange, teacher.encode(["old river"], "query"), atol=1e-6)
