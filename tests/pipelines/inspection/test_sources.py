"""What is said of each source: the curation's counts, and what the rows and the left-out rows themselves say."""

import shutil
import tomllib

import polars as pl
import pytest

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.erasure import erase
from pipelines.inspection.sources import (
    about_sources,
    leave_one_out,
    quarantined_elsewhere,
    source_lines,
    toml_weights,
    weights,
)
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from tests import ingested
from tests.scored_versions import scored_rows, write_scored, write_triplets

ALL = CurateConfig(test_share=0.0, dev_share=0.0, max_drop_share=1.0)
PAGE = " ".join(f"word{number}" for number in range(100))
ROWS = {
    "docs": [("q1", "a" * 10, 5.0, "b" * 4, -5.0), ("q1", "a" * 10, 5.0, "c" * 6, -5.0), ("q2", "d", 5.0, "b", -5.0)],
    "web": [
        ("q3", "bad", -5.0, "good", 5.0),  # the wrong way round: it is swapped
        ("q4", PAGE.replace("word50", "edited"), -4.0, "b", -3.0),  # the teacher prefers the negative
        ("q5", "e", 0.3, "f", -0.1),  # hardly better
        ("q6", PAGE, 5.0, "h", -5.0),
    ],
}


@pytest.fixture
def curated(tmp_path):
    scored = pl.concat([scored_rows(rows).with_columns(source=pl.lit(source)) for source, rows in ROWS.items()])
    tables = Tables.at(str(tmp_path / "tables"))
    return curate.run(write_scored(write_triplets(tables, scored), scored), ALL).version


def test_each_source_has_its_shares_and_the_worst_stands_first(curated):
    web, docs = about_sources(curated).iter_rows(named=True)

    assert (web["source"], web["queries"], web["rows"], web["main_reason"]) == ("web", 4, 4, "swapped")
    assert [web[name] for name in ("kept", "corrected", "dropped", "disagreement", "near_copies")] == [
        *(0.25, 0.25, 0.5, 0.5),
        0.25,
    ]
    assert (docs["source"], docs["queries"], docs["rows"], docs["main_reason"]) == ("docs", 2, 3, None)
    assert [docs[name] for name in ("kept", "disagreement", "near_copies")] == [1.0, 0.0, 0.0]
    assert (docs["query_chars"], docs["positive_chars"]) == (2, pytest.approx(21 / 3))
    assert docs["negative_chars"] == pytest.approx(11 / 3)


def test_where_the_scores_are_gone_disagreement_is_left_out(curated, capsys):
    shutil.rmtree(curated.tables.path("scored_triplets"))
    found = about_sources(curated)

    assert found["disagreement"].to_list() == [None, None]
    assert "sources: disagreement is left out, since its scores cannot be read any more" in capsys.readouterr().err
    assert [line.split()[:6] for line in source_lines(found)[1:3]] == [
        ["web", "4", "4", "25.0%", "25.0%", "50.0%"],
        ["docs", "2", "3", "100.0%", "0.0%", "0.0%"],
    ]


def test_what_was_erased_counts_no_more(tmp_path):
    scored = pl.concat([scored_rows(rows).with_columns(source=pl.lit(source)) for source, rows in ROWS.items()])
    scored = scored.with_columns(external_id=pl.when(source="docs").then(pl.lit("docs")).otherwise("query"))
    tables = Tables.at(str(tmp_path / "tables"))
    curated = curate.run(write_scored(write_triplets(tables, scored), scored), ALL).version
    erase.run(tables, ["docs", "q3", "q6"])
    (web,) = about_sources(tables.parse(str(curated))).iter_rows(named=True)

    assert [web[name] for name in ("source", "queries", "rows", "kept", "corrected", "dropped", "disagreement")] == [
        *("web", 2, 2),
        *(0.0, 0.0, 1.0, 0.5),
    ]
    erase.run(tables, ["q4", "q5"])
    with pytest.raises(UserError, match=r"curated_triplets@0 has no rows any more, nor what it dropped"):
        about_sources(tables.parse(str(curated)))


def test_what_was_left_out_before_is_counted_by_the_source_that_the_row_names_or_else_of_its_file(tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = [ingested.row(), ingested.row(negative="p"), ingested.row(query="")]
    triplets = ingested.run(tables, ingested.write(tmp_path, *rows, name="docs.jsonl"), max_bad_share=1)
    (tmp_path / "mixed.csv").write_text("query,positive,negative,from\nq,p,n,docs\n,p,n,elsewhere\n,p,n,\n,p,n,new\n")
    columns = {"source": "from"}
    ingested.run(tables, str(tmp_path / "mixed.csv"), columns=columns, max_bad_share=1)
    scored = scored_rows([("q", "p", 5.0, "n", -5.0), ("q9", "p", 5.0, "n", -5.0)])
    scored = scored.with_columns(source=pl.Series(["docs", "elsewhere"]))
    write_triplets(tables, scored[1:])
    found = about_sources(curate.run(write_scored(tables.latest("triplets"), scored), ALL).version)

    assert triplets.num_rows() == 1
    counts = found.sort("source").select("source", "quarantined", "inconsistent").rows()
    assert counts == [("docs", 2, 0), ("elsewhere", 1, 0)]
    told = quarantined_elsewhere(tables, found)
    assert told is not None
    copy = ingested.write(tmp_path, *rows, name="other.jsonl")  # the same bytes, by another name
    ingested.run(tables, copy, max_bad_share=1)
    assert about_sources(tables.newest("curated_triplets")).sort("source")["quarantined"].to_list() == [2, 1]
    assert told.startswith("in quarantined_rows: 2 more rows of what is no source here: mixed (1), new (1); a row")


def test_without_files_nothing_is_known_of_what_was_left_out(curated):
    found = about_sources(curated)

    assert found["quarantined"].to_list() == [None, None]
    assert quarantined_elsewhere(curated.tables, found) is None


def test_of_many_passages_some_are_looked_at(curated):
    assert about_sources(curated, passages_sampled=1)["near_copies"].to_list() == [0, 0]


def test_a_terminal_gets_the_columns_that_fit_and_is_told_of_the_others(curated):
    found = about_sources(curated)
    wide, narrow = source_lines(found), source_lines(found, 60)

    assert wide[0].split()[-2:] == ["mainly", "characters"]
    assert wide[-1] == "characters: means of query / positive / negative."
    assert narrow[0].split() == ["source", "queries", "rows", "kept", "corrected", "dropped"]
    assert " ".join(narrow[3:]) == (
        "Left out: disagreement, near copies, mainly, characters; a wider terminal has them, and --json."
    )
    assert max(map(len, narrow)) <= 60
    assert max(map(len, source_lines(found, 20))) <= 20


def test_weights_are_the_shares_that_stayed_and_a_recipe_reads_them(curated):
    found = weights(about_sources(curated))

    assert found == {"web": 0.25, "docs": 1.0}
    assert weights(pl.DataFrame({"source": ["a"], "kept": [0.0]})) == {"a": 1.0}
    hostile = {'a"b\\\n\x7fé [x]': 0.5, "": 1.0}
    assert tomllib.loads(toml_weights(hostile)) == {"distill": {"source_weights": hostile}}


def test_the_study_trains_on_all_and_without_each(curated):
    study = tomllib.loads(leave_one_out(about_sources(curated), 'my "own".toml', 7))

    assert (study["recipe"], study["max_steps"]) == ('my "own".toml', 7)
    assert [one["distill"]["source_weights"] for one in study["arms"]] == [{}, {"web": 0.0}, {"docs": 0.0}]
    assert [one["against"] for one in study["comparisons"]] == ["without_1", "without_2"]


def test_scores_are_no_curation(curated):
    with pytest.raises(UserError, match=r"scored_triplets@1 is no curation; expected a version of curated_triplets"):
        about_sources(curated.tables.parse("scored_triplets@1"))
