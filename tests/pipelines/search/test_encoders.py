"""A student's vectors with its own prompts, and a corpus encoded a block at a time."""

import numpy as np
from sentence_transformers import SentenceTransformer

from pipelines.search.encoders import PASSAGES_PER_BLOCK, StudentEncoder, passage_blocks
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
    passages = [str(number) for number in range(PASSAGES_PER_BLOCK + 1)]

    blocks = passage_blocks(Numbers(), passages, "mine: encoding")

    assert next(blocks)[:, 0].tolist() == list(range(PASSAGES_PER_BLOCK))
    assert next(blocks).tolist() == [[PASSAGES_PER_BLOCK]]
    assert list(blocks) == []
    assert "mine: encoding: 2,001 of 2,001 passages" in capsys.readouterr().err
