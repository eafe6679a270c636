"""What the benches of students share."""

import pytest

from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from tests.tiny import WORDS, tiny_encoder
from tests.training_data import commit_curated, curated_row, write_vectors


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A version of 20 queries, 5 of them in the dev split, its teacher vectors, and a config of 2 of 4 layers."""
    folder = tmp_path_factory.mktemp("bench")
    tables = Tables.at(str(folder / "tables"))
    rows = [
        curated_row(
            f"{one} {two}", f"the {one} {two} {three}", f"a {three} {one}", "dev" if place % 4 == 0 else "train"
        )
        for place, (one, two, three) in enumerate(zip(WORDS[:20], WORDS[30:50], WORDS[60:80], strict=True))
    ]
    curated = commit_curated(tables, rows)
    config = DistillConfig(
        source_model=tiny_encoder(folder / "source", "bert", num_layers=4),
        num_layers=2,
        dimensions=(32, 8),
        max_tokens=32,
        triplets_per_step=5,
        learning_rate=3e-3,
        epochs=4,
    )
    return curated, config, write_vectors(tables, curated, 32)
