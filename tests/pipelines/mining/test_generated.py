"""Generated queries as an input of mine: their pairs, given negatives and passages, traced to their version."""

import pytest

from pipelines import mine
from pipelines.inspection.graph import downstream_of, upstream_of
from pipelines.mine import MineConfig
from pipelines.mining.generated import take_generated
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.commits import Generated, GenerationResult, IngestedFile
from pipelines.storage.compact import CompactConfig, compact
from pipelines.texts.ids import text_id
from schemas import GeneratedQueries
from tests.rows import frame_of

OURS, OTHER = f"m@{'0' * 12}", f"m@{'1' * 12}"
SMALL = MineConfig(first_rank=1, last_rank=30, negatives_per_query=10, random_negatives=0)


def row(passage, query=None, positive=None, negative=None, relevant=(), **others):
    found = {"passage_id": text_id(passage), "passage": passage, "query": query, "source": "zoo", **others}
    found |= {"positive": positive, "negative": negative} if query else {"reason": "refused", "positive": None}
    return found | {"relevant_ids": [text_id(text) for text in relevant] or None}


ROWS = [
    row("fish swim here", "who swims", "fish swim here", "birds fly", ["fish swim here", "a duck swims too"]),
    row("birds fly", "who flies", "a duck flies", None, external_id="b"),
    row("a duck swims too"),
    row("swims nobody"),
]


def write(tables, *rows, generator=OURS, complete=True):
    file = IngestedFile(path="notes.jsonl")
    told = Generated(generator=generator) if complete else None
    result = GenerationResult(generator=generator, ingested_files=(file,), complete=told)
    with new_version(tables, GeneratedQueries, Lineage("generate", [], Config(), result)) as version:
        version.write(frame_of(GeneratedQueries, *rows, generator=generator))
    return version.version


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def mined(tables):
    rows = tables.latest("triplets").scan().collect()
    return {(row["query"], row["positive"], row["negative"]): row for row in rows.to_dicts()}


def test_pairs_keep_their_negative_and_what_answers_them_is_never_drawn(tables):
    mine.run(tables, [str(write(tables, *ROWS))], SMALL)
    rows = mined(tables)

    assert {negative: row["miner"] for (query, _, negative), row in rows.items() if query == "who swims"} == {
        "birds fly": "given",
        "swims nobody": "bm25",
        "a duck flies": "random",
    }
    one = rows["who swims", "fish swim here", "birds fly"]
    number = 1 + 2 * sorted([text_id("fish swim here"), text_id("birds fly")]).index(text_id("fish swim here"))
    assert (one["source"], one["source_file"], one["source_row"]) == ("zoo", "generated_queries@0", number)
    assert {row["external_id"] for (query, *_), row in rows.items() if query == "who flies"} == {"b"}


def test_history_leads_from_the_triplets_to_the_generated_version_and_back(tables):
    version = write(tables, *ROWS)
    triplets = mine.run(tables, [str(version)], SMALL)

    assert [str(one) for _, one in upstream_of(triplets)] == ["triplets@0", "generated_queries@0"]
    assert "triplets@0" in [str(one) for _, one in downstream_of(version)]


def test_rows_of_the_generator_that_made_the_version_alone_are_taken(tables):
    write(tables, *ROWS, generator=OTHER)
    owls = [row(f"an owl {sound}", f"who {sound}", f"an owl {sound}") for sound in ("hoots", "sees")]
    mine.run(tables, [str(write(tables, *owls))], SMALL)

    assert set(mined(tables)) == {
        ("who hoots", "an owl hoots", "an owl sees"),
        ("who sees", "an owl sees", "an owl hoots"),
    }


def test_the_same_rows_in_another_version_are_not_mined_again(tables, capsys):
    first = mine.run(tables, [str(write(tables, *ROWS))], SMALL)
    write(tables, row("an owl", "who hoots", "an owl"), generator=OTHER)
    compact(tables, CompactConfig(), ["generated_queries"])

    assert mine.run(tables, ["generated_queries@0"], SMALL) == first
    assert "adds nothing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["generated_queries", "generated_queries@0", "{root}/generated_queries@0"])
def test_a_version_is_named_as_it_is_printed_or_by_its_folder(tables, name):
    write(tables, *ROWS)
    (found,), others = take_generated(tables, [name.format(root=tables.uri), "pairs.jsonl"])

    assert (found.path, len(found.rows), others) == ("generated_queries@0", 4, ["pairs.jsonl"])


def test_a_table_of_that_name_elsewhere_is_a_foreign_one(tables, tmp_path):
    other = Tables.at(str(tmp_path / "other"))
    write(other, *ROWS)
    write(tables, *ROWS)

    assert take_generated(tables, [f"{other.uri}/generated_queries"]) == ([], [f"{other.uri}/generated_queries"])


def test_what_is_not_complete_is_said_and_what_is_not_there_refused(tables, capsys):
    with pytest.raises(UserError, match="run `python -m jobs generate` first"):
        take_generated(tables, ["generated_queries"])
    write(tables, *ROWS, complete=False)
    take_generated(tables, ["generated_queries"])
    assert "generated_queries@0 is not complete" in capsys.readouterr().err
    write(tables, row("an owl"), generator=OTHER)
    with pytest.raises(UserError, match="has no query with a positive by m@1"):
        mine.run(tables, ["generated_queries"], SMALL)


def test_whose_rows_are_taken_is_said_and_nothing_of_our_own_columns(tables, capsys):
    write(tables, *ROWS, generator=OTHER)
    mine.run(tables, ["generated_queries"], SMALL)
    alone = capsys.readouterr().err
    write(tables, *ROWS, generator=OURS)
    mine.run(tables, ["generated_queries"], SMALL)
    told = capsys.readouterr().err

    assert "is read as a label" not in alone + told
    assert "are taken, not those of" not in alone
    assert f"the rows of {OURS} are taken, not those of {OTHER}" in told
