"""Each passage has one row of a generator, whoever comes second; a failed try gives way to a later one."""

import polars as pl
import pytest

from pipelines.asking.book import Known
from pipelines.generation.commits import book_of, plan
from pipelines.generation.config import GenerateConfig
from pipelines.storage import Tables
from pipelines.storage.commits import GenerationResult
from pipelines.texts.ids import text_id

CONFIG = GenerateConfig(endpoint="http://host/v1", model="m")
PASSAGES = (
    pl.DataFrame({"passage": [f"passage {number}" for number in range(6)]})
    .with_columns(passage_id=pl.col("passage").map_elements(text_id, return_dtype=pl.String))
    .with_columns(source=pl.lit("s"), source_file=pl.lit("f"), source_row=1, external_id=pl.lit(None, pl.String))
    .sort("passage_id")
)


def row(number, reason=None, tokens=(10, 1), calls=2, config=CONFIG, query="asks"):
    found = PASSAGES.row(number, named=True) | {"generator": config.generator, "calls": calls, "reason": reason}
    found |= {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    return found | ({} if reason else {"query": query, "positive": found["passage"]})


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def commit(tables, rows, known=None, config=CONFIG):
    return book_of(tables, config, []).commit(rows, known)


def there(tables):
    rows = tables.latest("generated_queries").scan().collect().sort("passage_id", "generator")
    return {PASSAGES["passage_id"].to_list().index(one["passage_id"]): one for one in rows.to_dicts()}


def test_a_row_that_comes_second_is_left_out(tables):
    commit(tables, [row(0), row(1, "refused")])
    committed = commit(tables, [row(0, query="again"), row(1), row(2)])

    assert (committed.rows, str(committed.compared_with)) == (1, "generated_queries@0")
    assert str(committed.version) == "generated_queries@1"
    assert {number: one["query"] for number, one in there(tables).items()} == {0: "asks", 1: None, 2: "asks"}


def test_a_failed_try_gives_way_to_an_answer_and_to_no_other_failure(tables):
    commit(tables, [row(0, "endpoint_error"), row(1, "endpoint_error"), row(2)])
    committed = commit(tables, [row(0), row(1, "endpoint_error", calls=9)])

    assert committed.rows == 1
    rows = there(tables)
    assert len(rows) == tables.latest("generated_queries").num_rows() == 3
    assert [rows[number]["reason"] for number in range(3)] == [None, "endpoint_error", None]
    assert rows[1]["calls"] == 2


def test_another_generator_has_rows_of_its_own(tables):
    other = CONFIG.model_copy(update={"seed": 1})
    commit(tables, [row(0)])

    assert commit(tables, [row(0, config=other)], config=other).rows == 1
    assert tables.latest("generated_queries").num_rows() == 2


def test_the_commit_counts_what_it_brings(tables):
    committed = commit(tables, [row(0), row(1, "refused", tokens=(5, 2))])
    result = committed.version.commit.reports(GenerationResult)

    assert (result.rows, result.failures, result.input_tokens, result.output_tokens) == (2, 1, 15, 3)
    assert result.generator == CONFIG.generator


def test_tokens_that_the_endpoint_does_not_tell_are_not_known_of_the_commit(tables):
    committed = commit(tables, [row(0), row(1, tokens=(None, None))])

    assert committed.version.commit.reports(GenerationResult).input_tokens is None


def test_the_plan_is_what_has_no_row_and_what_failed_with_what_it_cost(tables):
    commit(tables, [row(0), row(1, "endpoint_error", tokens=(7, 0), calls=1), row(2, "refused")])
    left = plan(book_of(tables, CONFIG, []), PASSAGES, CONFIG.model_copy(update={"max_passages": 4}))

    assert (left.wanted, left.num_unasked, left.spent) == (4, 1, (3, 27, 2))
    assert [(seed.columns["position"], seed.paid, seed.is_again) for seed in left.seeds] == [
        (1, (1, 7, 0), True),
        (3, (0, 0, 0), False),
    ]
    assert left.done["reason"].to_list() == [None, "refused"]


def test_what_is_known_is_not_read_again_until_another_commits(tables):
    first = commit(tables, [row(0, "endpoint_error"), row(1)])
    known = Known(first.version, frozenset([(PASSAGES["passage_id"][0],)]))
    second = commit(tables, [row(0), row(2)], known)

    assert (second.rows, second.compared_with) == (2, first.version)
    assert commit(tables, [row(2), row(3)], known).rows == 1, "the table has moved on"
    assert tables.latest("generated_queries").num_rows() == 4
