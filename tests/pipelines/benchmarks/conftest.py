"""What the benches of students share."""

from itertools import product

import pytest

from pipelines.curate import CurateConfig
from pipelines.students.config import DistillConfig
from tests.curated_versions import curated as curated_of
from tests.rows import split_of_text
from tests.tiny import WORDS, tiny_encoder
from tests.training_data import write_vectors

A_QUARTER = CurateConfig(dev_share=0.25, test_share=0.0)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A version of 20 queries, 5 of them in the dev split, its teacher vectors, and a config of 2 of 4 layers."""
    folder = tmp_path_factory.mktemp("bench")
    names = [f"{one} {two}" for two, one in product(WORDS[30:50], WORDS[:20])]
    splits = {split: [name for name in names if split_of_text(name, 0.25, 0.0) == split] for split in ("dev", "train")}
    queries = zip(splits["dev"][:5] + splits["train"][:15], WORDS[60:80], WORDS[:20], strict=True)
    rows = [(query, f"the {query} {two}", 5.0, f"a {two} {one}", -5.0) for query, two, one in queries]
    curated = curated_of(folder, rows, A_QUARTER)
    config = DistillConfig(
        source_model=tiny_encoder(folder / "source", "bert", num_layers=4),
        num_layers=2,
        dimensions=(32, 8),
        max_tokens=32,
        triplets_per_step=5,
        learning_rate=3e-3,
        epochs=4,
    )
    return curated, config, write_vectors(curated.tables, curated, 32)
