"""One tiny student source and two token caches for all tests of the loop: a teacher as wide as it, and a wider one."""

from pathlib import Path

import pytest

from pipelines.curate import CurateConfig
from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.dev_set import build_dev_set
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from tests.tiny import tiny_encoder
from tests.tiny_training import WIDE, WIDTH, Setting
from tests.training_data import write_curated, write_judged, write_vectors


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Setting]:
    """By the width of the teacher's vectors."""
    folder = tmp_path_factory.mktemp("setting")
    tables = Tables.at(str(folder / "tables"))
    curated = write_curated(tables, num_queries=40)
    source = tiny_encoder(folder / "source", "bert", num_layers=4)
    config = DistillConfig(source_model=source, num_layers=2, dimensions=(WIDTH,), max_tokens=64)
    student = initialise_student(config)
    student.save_pretrained(str(folder / "student"), create_model_card=False)
    judged = write_judged(folder / "judged", num_queries=60, config=CurateConfig(dev_share=0.5, test_share=0.0))
    dev = str(folder / "dev")
    build_dev_set(Path(dev), judged, student.tokenizer, config.model_copy(update={"dev_passages": 60}))
    made = {width: Setting(str(folder / "student"), str(folder / f"cache_{width}"), dev) for width in (WIDTH, WIDE)}
    for width, setting in made.items():
        vectors = write_vectors(tables, curated, width, teacher=f"teacher_{width}@0123456789ab")
        its = config.model_copy(update={"vectors_teacher": f"teacher_{width}@0123456789ab"})
        build_token_cache(Path(setting.cache), curated, student.tokenizer, its, vectors)
    dense = initialise_student(config.model_copy(update={"head": "dense"}))
    dense.save_pretrained(str(folder / "dense"), create_model_card=False)
    return made


@pytest.fixture(scope="session")
def setting(settings: dict[int, Setting]) -> Setting:
    return settings[WIDTH]


@pytest.fixture(scope="session")
def wide(settings: dict[int, Setting]) -> Setting:
    """The teacher's vectors are wider than the student's: a projection is needed."""
    return settings[WIDE]


@pytest.fixture(scope="session")
def dense(wide: Setting) -> Setting:
    """Wider vectors, and a student with a dense head."""
    return Setting(str(Path(wide.untrained).parent / "dense"), wide.cache)
