"""One tiny student source and one token cache for all tests of the loop."""

from pathlib import Path

import pytest

from pipelines.curate import CurateConfig
from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.dev_set import build_dev_set
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from tests.tiny import tiny_encoder
from tests.tiny_training import WIDTH, Setting
from tests.training_data import write_curated, write_judged, write_vectors


@pytest.fixture(scope="session")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("setting")
    tables = Tables.at(str(folder / "tables"))
    curated = write_curated(tables, num_queries=40)
    source = tiny_encoder(folder / "source", "bert", num_layers=4)
    config = DistillConfig(source_model=source, num_layers=2, dimensions=(WIDTH,), max_tokens=64)
    student = initialise_student(config)
    student.save_pretrained(str(folder / "student"), create_model_card=False)
    made = Setting(str(folder / "student"), str(folder / "cache"), str(folder / "dev"))
    vectors = write_vectors(tables, curated, WIDTH)
    build_token_cache(Path(made.cache), curated, student.tokenizer, config, vectors)
    judged = write_judged(folder / "judged", num_queries=60, config=CurateConfig(dev_share=0.5, test_share=0.0))
    build_dev_set(Path(made.dev), judged, student.tokenizer, config.model_copy(update={"dev_passages": 60}))
    return made
