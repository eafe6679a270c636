"""Where a page's numbers come from: every version once, below what it was made of, with the command that prints it."""

import shlex

from pipelines.report.lineage import lineage
from pipelines.report.subject import Subject
from tests.reported import MODEL, reported, write_model


def test_every_version_stands_below_what_it_was_made_of(subject):
    told = lineage(subject)
    place = {node.id: at for at, node in enumerate(told.nodes)}

    assert set(place) >= {"triplets@0", "curated_triplets@1", "dropped_triplets@1", MODEL, "evaluations@0"}
    assert len(place) == len(told.nodes)
    assert all(place[parent] < place[made] for parent, made in told.edges)
    assert {("curated_triplets@1", MODEL), (MODEL, "evaluations@0")} <= set(told.edges)


def test_the_commands_name_the_root_and_print_what_they_stand_beside(tmp_path):
    root = reported(tmp_path / "a 'root'", 4)
    write_model(root.tables, root.curated, f"newer@{'0' * 12}")
    told = lineage(Subject.find(root.tables, root.curated, root.before))
    commands = {node.id: shlex.split(node.command) for node in told.nodes if node.kind != "file"}

    of_root = ["--tables", root.tables.uri]
    assert commands["curated_triplets@0"] == [*"python -m jobs history curated_triplets@0".split(), *of_root]
    assert commands[MODEL] == [*"python -m jobs history models@0".split(), *of_root]
    assert commands[f"newer@{'0' * 12}"][4] == "models@1"


def test_of_very_many_versions_the_newest_are_shown_and_the_others_counted(subject, monkeypatch):
    monkeypatch.setattr("pipelines.report.lineage.MOST_NODES", 2)
    told = lineage(subject)

    versions = [node.id for node in told.nodes if node.kind == "version"]
    assert [name.partition("@")[0] for name in versions].count("evaluations") == 1
    assert len(versions) == 2 + 1
    assert told.left_out == 2
    assert told.is_whole


def test_a_very_long_history_is_not_read_to_its_beginning(subject, monkeypatch):
    monkeypatch.setattr("pipelines.report.lineage.MOST_WALKED", 2)

    assert not lineage(subject).is_whole
