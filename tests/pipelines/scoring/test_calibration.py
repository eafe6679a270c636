"""What an actor counts and times: every text of its chunks, in the batches that a run would have."""

import numpy as np
import pytest

from pipelines.scoring.calibration import Reader, spaced
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.streams import PairStream
from pipelines.storage import Tables
from pipelines.streaming.stream import Plan
from pipelines.teachers.config import name_teacher
from pipelines.texts.token_batches import token_batches
from tests.scored_versions import scored_rows, write_triplets
from tests.tiny import texts, tiny_bi_encoder, tiny_cross_encoder


@pytest.fixture(params=["cross_encoder", "bi_encoder"])
def plan(request, tmp_path) -> Plan:
    make = tiny_cross_encoder if request.param == "cross_encoder" else tiny_bi_encoder
    config = ScoreConfig(
        precision="float32",
        teacher=make(tmp_path / "teacher"),
        teacher_kind=request.param,
        max_tokens=16,
        batch_tokens=64,
        chunk_rows=40,
    )
    passages = texts(61, seed=1)
    rows = [(f"{query} {n}", passages[n], 1.0, passages[n + 1], 0.0) for n, query in enumerate(texts(60, seed=0))]
    triplets = write_triplets(Tables.at(str(tmp_path / "tables")), scored_rows(rows))
    return Plan.of(PairStream(triplets, config, name_teacher(config), "again", 1.0))


def test_a_chunk_is_counted_whole_and_timed_in_its_own_batches(plan):
    reader, chunks = Reader(plan.stream, None), plan.chunks(1)

    counted = reader.count(chunks).row(0, named=True)

    assert len(chunks) > 1
    read = 120 if plan.stream.config.teacher_kind == "cross_encoder" else 60 + 60 + len(chunks)
    assert counted["tokens_x"] == counted["cut_x"] == len(reader.lengths) >= read - len(chunks)
    assert counted["tokens_y"] == reader.lengths.sum()
    assert 0 < counted["cut_y"] < counted["cut_x"]
    assert reader.lengths.max() == 16
    batches = reader._batches()
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(reader.lengths)))
    assert all(reader.texts[batch].select("chunk", "kind").n_unique() == 1 for batch in batches)
    for number in range(len(chunks)):
        own = [batch for batch in batches[::2] if reader.texts["chunk"][int(batch[0])] == number]
        kinds = {reader.texts["kind"][int(batch[0])] for batch in own}
        for kind in kinds:
            given = [batch for batch in own if reader.texts["kind"][int(batch[0])] == kind]
            again = token_batches(reader.lengths[np.concatenate(given)], 64)
            assert [len(batch) for batch in again] == [len(batch) for batch in given]
    pace = reader.time()
    assert 0 < pace.slowest <= pace.tokens <= pace.fastest


def test_nothing_left_is_counted_as_nothing(plan):
    reader = Reader(plan.stream, None)
    nothing = plan.chunks(1)[0]._replace(lower="g", upper="g")

    assert reader.count([nothing])["tokens_x"].to_list() == [0.0]


@pytest.mark.parametrize(
    ("total", "wanted", "offset", "expected"), [(10, 5, 0.5, [1, 3, 5, 7, 9]), (3, 3, 0.9, [0, 1, 2]), (7, 1, 0.0, [0])]
)
def test_places_are_evenly_spaced(total, wanted, offset, expected):
    assert spaced(total, wanted, offset) == expected
