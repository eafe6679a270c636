"""Erasing a person: no file has the rows or texts any more, every version can be read without them, none comes back."""

import json
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from filelock import FileLock

from pipelines import curate, mine
from pipelines.checkpoints.run_folder import IDENTITY, RunFolder, token_caches_of
from pipelines.erasure import erase
from pipelines.inspection.pins import pins
from pipelines.mine import MineConfig
from pipelines.scoring.variation import copies_of
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage import erase as of_storage
from pipelines.storage.commits import TrainingResult
from pipelines.storage.compact import CompactConfig, compact
from pipelines.storage.tags import add_tag
from pipelines.storage.vacuum import plan
from pipelines.texts.ids import text_id
from schemas import TABLES, GeneratedQueries, Models, PassageJudgements, QuarantinedRows, TeacherVectors
from tests import ingested
from tests.aged import age
from tests.curated_versions import HALF
from tests.rows import frame_of
from tests.scored_versions import scored_rows, write_scored, write_triplets

ANNAS = {"anna asks", "anna answers", "anna denies"}
SHARED = "all deny"
ALL = HALF.model_copy(update={"test_share": 0.0})


def row(query, positive, negative, external_id, **others):
    return scored_rows([(query, positive, 5.0, negative, -5.0)], external_id=external_id, **others)


def rows_of(number):
    """Anna's rows beside others': one shares a text with hers, one was given hers by a miner."""
    return pl.concat(
        [
            row("anna asks", "anna answers", f"denied {number}", "anna"),
            row("anna asks", "anna answers", SHARED, "anna"),
            row("bert asks", "bert answers", SHARED, "bert"),
            row(f"bert asks {number}", "bert answers", "anna answers", "bert", miner="bm25"),
            row(f"nobody asks {number}", "nobody answers", "nobody denies", None),
        ]
    )


@pytest.fixture
def tables(tmp_path):
    """Two growing triplets versions, each scored and curated; vectors, quarantined rows and a model on the first."""
    tables = Tables.at(str(tmp_path / "tables"))
    for number in range(2):
        rows = rows_of(number)
        known = tables.latest("triplets")
        if known:
            rows = rows.join(known.scan().select("triplet_id").collect(), on="triplet_id", how="anti")
        scored = write_scored(write_triplets(tables, rows), rows)
        curate.run(scored, ALL)
    texts = ["anna answers", "bert answers", SHARED]
    with new_version(tables, TeacherVectors, Lineage("score", [scored], Config())) as vectors:
        vectors.write(frame_of(TeacherVectors, *({"text_id": text_id(text), "kind": "passage"} for text in texts)))
    raw = [json.dumps({"query": "", "positive": "anna answers", "id": "anna"}), '{"query": "annabel"}']
    with new_version(tables, QuarantinedRows, Lineage("ingest", [], Config())) as quarantined:
        rows = ({"raw": one, "source_row": n, "named_source": "s"} for n, one in enumerate(raw, 1))
        quarantined.write(frame_of(QuarantinedRows, *rows))
    curated, result = tables.parse("curated_triplets@0"), TrainingResult(model=f"small@{'0' * 12}")
    with new_version(tables, Models, Lineage("distill", [curated], Config(), result)) as models:
        models.write(frame_of(Models, {"model_id": result.model, "curated_version": str(curated), "recipe": "{}"}))
    return tables


def texts_in_files(tables):
    """Every text of every column of every Parquet file under the root."""
    frames = [pl.read_parquet(path, glob=False) for path in Path(tables.uri).rglob("*.parquet")]
    return {text for frame in frames for text in frame.select(pl.col(pl.String)).unpivot()["value"].drop_nulls()}


def versions_of(tables):
    return [version for name in tables.names() for version in tables.latest(name).history()]


def external_ids(version):
    return sorted(version.scan().select("external_id").collect().to_series().drop_nulls())


def test_no_file_has_the_rows_any_more_and_every_version_can_be_read_without_them(tables):
    before = {str(version): (version.identity(), version.num_rows()) for version in versions_of(tables)}

    erased = erase.run(tables, ["anna"])

    assert not any("anna" in text.replace("annabel", "") for text in texts_in_files(tables))
    assert dict(erased.rows.iter_rows()) == {
        **{"triplets": 5, "scored_triplets": 5, "curated_triplets": 5, "dropped_triplets": 0},
        **{"teacher_vectors": 1, "quarantined_rows": 1},
    }
    assert erased.models.rows() == [(f"small@{'0' * 12}", "curated_triplets@0", 3)]
    for version in map(tables.parse, before):
        identity, num_rows = before[str(version)]
        assert version.unusable is None
        assert version.identity() == identity
        blanked = version.name == "quarantined_rows"
        assert (
            version.num_rows() == version.scan().collect().height == num_rows - (0 if blanked else version.num_erased())
        )
        TABLES[version.name].validate(version.scan().collect(), lazy=True)
    assert external_ids(tables.parse("curated_triplets@0")) == ["bert"]
    assert tables.newest("curated_triplets") == tables.parse("curated_triplets@1")
    held = tables.latest("quarantined_rows").scan().select("raw", "named_source").collect().rows()
    assert held == [(None, None), ('{"query": "annabel"}', "s")]
    assert SHARED in texts_in_files(tables)


def test_other_readers_find_the_newest_versions_without_the_rows(tables):
    erase.run(tables, ["anna"])

    for name in tables.names():
        version = tables.latest(name)
        table = DeltaTable(tables.path(name))
        assert table.version() == version.version
        read = pl.DataFrame(table.to_pyarrow_table())
        assert read.sort(read.columns[0]).equals(version.scan().collect().sort(read.columns[0]))
    assert tables.latest("triplets").commit.stage == "erase"


def test_the_flow_goes_on_after_an_erasure(tables):
    add_tag(tables.parse("curated_triplets@0"), "golden")
    erase.run(tables, ["anna"])
    rows = row("new asks", "new answers", "new denies", "carl")

    scored = write_scored(write_triplets(tables, rows), rows)
    counts = curate.run(scored, ALL).counts
    list(compact(tables, [], CompactConfig()))
    age(tables, 100)
    plan(tables, pins(tables), 24 * 3600).remove()

    assert counts["rows"].sum() == 4
    assert external_ids(tables.parse("golden")) == ["bert"]
    assert external_ids(tables.newest("curated_triplets")) == ["bert", "carl"]
    assert not any("anna " in text for text in texts_in_files(tables))


@pytest.mark.parametrize("killed_at", ["_put_in_place", "write_replaced", "data_files", "_forget_trainings"])
def test_a_kill_leaves_every_version_readable_and_the_same_call_goes_on(tables, monkeypatch, killed_at):
    class Killed(BaseException):
        pass

    calls = []

    def kill(*_):
        calls.append(1)
        if len(calls) == 3 or killed_at == "_forget_trainings":
            raise Killed

    module = erase if killed_at == "_forget_trainings" else of_storage
    real = getattr(module, killed_at)

    def killing(*arguments):
        kill()
        return real(*arguments)

    monkeypatch.setattr(module, killed_at, killing)
    with pytest.raises(Killed):
        erase.run(tables, ["anna"])
    monkeypatch.undo()
    assert all(version.unusable is None for version in versions_of(tables))

    erased = erase.run(tables, ["anna"])

    assert dict(erased.rows.iter_rows())["curated_triplets"] == 5
    assert erased.models["rows"].to_list() == [3]
    assert not any("anna" in text.replace("annabel", "") for text in texts_in_files(tables))
    assert all(version.unusable is None for version in versions_of(tables))


def test_a_second_person_is_erased_from_the_files_that_the_first_left(tables):
    erase.run(tables, ["anna"])

    erased = erase.run(tables, ["bert", "unknown"])

    assert dict(erased.rows.iter_rows())["triplets"] == 1
    first = tables.parse("curated_triplets@0")
    assert first.num_erased() == 4
    assert first.scan().collect()["query"].to_list() == ["nobody asks 0"]
    assert not any(name in text for name in ("anna ", "bert") for text in texts_in_files(tables))


def test_varied_copies_of_a_version_that_loses_rows_go_whole_and_other_plain_texts_stay(tables):
    class Copying(Config):
        varied_copies: int = 2

    curated = tables.parse("curated_triplets@1")
    copies = [text for batch in copies_of(curated, 2) for text in batch]
    texts = [*copies, "a plain text"]
    with new_version(tables, TeacherVectors, Lineage("score", [curated], Copying())) as vectors:
        rows = [{"text_id": text_id(text), "kind": "passage", "text": text} for text in dict.fromkeys(texts)]
        vectors.write(frame_of(TeacherVectors, *rows))

    erase.run(tables, ["anna"])

    assert tables.latest("teacher_vectors").scan().collect()["text"].drop_nulls().to_list() == ["a plain text"]


def test_rows_are_counted_and_gone_where_only_a_compaction_holds_them(tables):
    erase.run(tables, ["carl", "anna's friend"])
    list(compact(tables, [], CompactConfig()))
    age(tables, 100)
    plan(tables, pins(tables), 24 * 3600).remove()

    erased = erase.run(tables, ["anna"])

    assert dict(erased.rows.iter_rows())["curated_triplets"] == 5
    assert tables.parse("curated_triplets@1").num_erased() == 5
    assert tables.parse("curated_triplets@1").unusable is None
    assert erased.models["rows"].to_list() == [3]
    assert not any("anna" in text.replace("annabel", "") for text in texts_in_files(tables))


def test_half_a_file_of_a_crash_is_deleted_and_a_damaged_one_of_a_version_is_refused(tables):
    half = Path(tables.path("triplets"), "half.parquet")
    half.write_bytes(b"PAR1anna answers")
    erase.run(tables, ["anna"])
    assert not half.exists()

    Path(tables.path("triplets"), tables.latest("triplets").files()[0]["path"]).write_bytes(b"PAR1bert answers")
    with pytest.raises(UserError, match=r"triplets"):
        erase.run(tables, ["bert"])


def test_ids_that_nobody_has_are_said(tables, capsys):
    erase.run(tables, ["anna ", "bert"])

    assert "1 of 2 external ids stand in no row of triplets: anna " in capsys.readouterr().err


def test_a_dry_run_counts_the_same_and_writes_nothing(tables):
    files = sorted(Path(tables.uri).rglob("*"))

    planned = erase.run(tables, ["anna"], dry_run=True)

    assert sorted(Path(tables.uri).rglob("*")) == files
    done = erase.run(tables, ["anna"])
    assert planned.rows.equals(done.rows)
    assert planned.models.equals(done.models)


def test_what_was_erased_is_left_out_when_it_is_ingested_or_mined_again(tmp_path, capsys):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = [ingested.row(f"query {n}", "p", "n", external_id=n % 3) for n in range(9)]
    ingested.run(tables, ingested.write(tmp_path, *rows))
    assert dict(erase.run(tables, ["1"]).rows.iter_rows())["triplets"] == 3
    bad = ingested.row("", "secret of 1", "n", external_id="1")

    ingested.run(tables, ingested.write(tmp_path, *rows, bad, ingested.row("new"), name="again.jsonl"))
    pairs = [{"query": f"query {n}", "positive": f"mined {n % 3} of {n}", "external_id": str(n % 3)} for n in range(9)]
    mine.run(tables, [ingested.write(tmp_path, *pairs, name="pairs.jsonl")], MineConfig())

    assert {one for (one,) in ingested.rows_of(tables, "triplets", "external_id")} == {"0", "2", None}
    assert ingested.counts(tables)[0] == [11, 1, 6, 4]
    assert "again.jsonl: 4 rows left out, by external ids that were erased" in capsys.readouterr().err
    assert {tuple(row) for row in ingested.rows_of(tables, "quarantined_rows", "raw")} == {(None,)}
    assert not any("secret" in text or "mined 1" in text for text in texts_in_files(tables))


def test_a_killed_training_on_such_rows_begins_anew_and_one_that_runs_is_waited_for(tables, capsys):
    folder = RunFolder(tables, "begun")
    folder.write(IDENTITY, {"curated": tables.parse("curated_triplets@1").identity(), "vectors": None, "config": {}})
    folder.write("ray/2/start.json", {})
    with folder.lock(), pytest.raises(UserError, match="model begun is being trained"):
        erase.run(tables, ["anna"])
    assert external_ids(tables.latest("triplets")) == ["anna", "anna", "anna", "bert", "bert", "bert"]

    erase.run(tables, ["anna"])

    assert not folder.has_trained()
    assert "what the training begun kept is gone" in capsys.readouterr().err


def test_token_caches_of_these_tables_go_and_other_roots_keep_theirs(tables, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own, other = (
        tmp_path / f"{start}1" for start in (token_caches_of(tables.latest("curated_triplets")), "distill_2_")
    )
    for folder in (own, other):
        folder.mkdir()

    with FileLock(Path(tables.uri, "erased", ".lock")), pytest.raises(UserError, match="another erasure is at work"):
        erase.run(tables, ["anna"])
    assert own.exists()
    erase.run(tables, ["anna"])

    assert (own.exists(), other.exists()) == (False, True)


def test_a_file_without_ids_is_refused(tmp_path):
    path = tmp_path / "ids.txt"
    with pytest.raises(UserError, match="there is no file"):
        erase.read_ids(str(path))
    path.write_bytes(b"\n \r\n")
    with pytest.raises(UserError, match="holds no external id"):
        erase.read_ids(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match="is not UTF-8"):
        erase.read_ids(str(path))
    path.write_bytes("\ufeffb\r\na b\n\nb".encode())
    assert erase.read_ids(str(path)) == ["a b", "b"]


def test_a_table_that_may_only_be_added_to_is_lifted_and_that_is_said(tables, capsys):
    tables.delta("triplets").alter.set_table_properties({"delta.appendOnly": "true"})

    erase.run(tables, ["anna"])

    assert "was for additions alone" in capsys.readouterr().err
    assert external_ids(tables.latest("triplets")) == ["bert"]


def passage(text, query, external_id, positive=None, negative=None, **others):
    row = {"passage": text, "query": query, "positive": positive or text, "negative": negative, **others}
    names = {"passage_id": "passage", "query_id": "query", "positive_id": "positive", "negative_id": "negative"}
    return row | {name: row[text] and text_id(row[text]) for name, text in names.items()} | {"external_id": external_id}


def write_generated(tables):
    """Anna's passage, which is another query's positive and a third one's negative; Bert's, which is Anna's positive;
    and grades that could not be read."""
    rows = [
        passage("anna tells", "what anna wrote", "anna", positive="bert tells"),
        passage("bert tells", "what bert wrote", "bert"),
        passage("carl tells", "who tells", "carl", positive="anna tells"),
        passage("dora tells", "who told", "dora", negative="anna tells"),
        passage("emil tells", "who knows", "emil", negative="bert tells"),
        passage("fred tells", "who fred is", "fred", answer="anna tells that", reason="malformed_answer"),
    ]
    rows[-1] |= {"positive": None, "positive_id": None}
    with new_version(tables, GeneratedQueries, Lineage("generate", [], Config())) as version:
        version.write(frame_of(GeneratedQueries, *rows, generator=f"m@{'0' * 12}"))


@pytest.mark.parametrize("has_triplets", [True, False])
def test_of_generated_queries_their_rows_and_texts_go_and_what_was_judged_theirs_stays(tmp_path, has_triplets):
    tables = Tables.at(str(tmp_path / "tables"))
    write_generated(tables)
    if has_triplets:  # as mine makes them
        mined = {"source_file": "generated_queries@0", "miner": "bm25"}
        rows = [
            row("what anna wrote", "bert tells", "emil tells", "anna", **mined),
            row("who tells", "anna tells", "emil tells", "carl", **mined),
            row("who told", "dora tells", "anna tells", "dora", **mined | {"miner": "given"}),
            row("what bert wrote", "bert tells", "emil tells", "bert", **mined),
        ]
        write_triplets(tables, pl.concat(rows))

    counted = dict(erase.run(tables, ["anna"], dry_run=True).rows.iter_rows())
    erased = dict(erase.run(tables, ["anna"]).rows.iter_rows())

    assert erased == counted
    assert erased["generated_queries"] == 4
    assert not has_triplets or erased["triplets"] == 3
    assert tables.latest("generated_queries").scan().collect()["passage"].sort().to_list() == [
        "bert tells",
        "emil tells",
    ]
    assert not {text for text in texts_in_files(tables) if text and "anna" in text}
    assert tables.parse("generated_queries@0").num_rows() == 2


def test_judgements_of_their_texts_go_and_others_stay(tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    theirs, others = row("what anna wrote", "anna tells", "a stone", "anna"), row("who", "carl", "a tree", "carl")
    write_triplets(tables, pl.concat([theirs, others]))
    pairs = [("what anna wrote", "a bush"), ("who", "anna tells"), ("who", "a tree")]
    rows = [
        {"query": query, "query_id": text_id(query), "passage": passage, "passage_id": text_id(passage)}
        for query, passage in pairs
    ]
    with new_version(tables, PassageJudgements, Lineage("relabel", [], Config())) as version:
        version.write(frame_of(PassageJudgements, *rows, judge=f"m@{'0' * 12}"))

    counted = dict(erase.run(tables, ["anna"], dry_run=True).rows.iter_rows())
    erased = dict(erase.run(tables, ["anna"]).rows.iter_rows())

    assert erased["passage_judgements"] == counted["passage_judgements"] == 2
    assert tables.parse("passage_judgements@0").scan().collect()["passage"].to_list() == ["a tree"]
    assert not {text for text in texts_in_files(tables) if text and "anna" in text}
