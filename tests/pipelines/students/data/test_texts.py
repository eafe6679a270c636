"""A student learns from plain texts alone, and from drawn candidates: the loop, from a cache that was built for it."""

import pytest

from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from tests.tiny import tiny_encoder
from tests.tiny_training import SETTINGS, WIDTH, Setting
from tests.training_data import write_curated, write_vectors

TEXTS = {"data": "texts", "margin_mse": 0.0, "info_nce": 0.0, "vectors": 1.0, "texts_per_step": 20, "epochs": 8}
DRAWN = {"candidates_per_query": 3, "source_weights": {"source": 1.5}}


@pytest.mark.parametrize("changes", [TEXTS, DRAWN], ids=["texts", "candidates"])
def test_a_student_learns_from(changes, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    curated = write_curated(tables, num_queries=16, num_negatives=4)
    given = SETTINGS | changes | {"source_model": tiny_encoder(tmp_path / "source"), "num_layers": 2}
    config = DistillConfig(**given, query_prompt="", passage_prompt="")
    student = initialise_student(config)
    student.save_pretrained(str(tmp_path / "untrained"), create_model_card=False)
    vectors = write_vectors(tables, curated, WIDTH)
    build_token_cache(tmp_path / "cache", curated, student.tokenizer, config, vectors)

    setting = Setting(str(tmp_path / "untrained"), str(tmp_path / "cache"))
    summary, _, lines = setting.train(tmp_path / "run", **changes)

    assert summary.steps == len(lines)
    assert sum(line["loss"] for line in lines[-3:]) < sum(line["loss"] for line in lines[:3])
    assert all(line["triplets"] == 0 for line in lines) if "data" in changes else lines[0]["triplets"] > 0
