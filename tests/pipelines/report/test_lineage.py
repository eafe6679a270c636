"""Where a page's numbers come from: every version once, below what it was made of, with the command that prints it."""

from pipelines.report.lineage import lineage
from tests.reported import MODEL


def test_every_version_stands_below_what_it_was_made_of(subject):
    told = lineage(subject)
    place = {node.id: at for at, node in enumerate(told.nodes)}

    assert set(place) >= {"triplets@0", "curated_triplets@1", "dropped_triplets@1", MODEL}
    assert len(place) == len(told.nodes)
    assert all(place[parent] < place[made] for parent, made in told.edges)
    assert ("curated_triplets@1", MODEL) in told.edges
    assert {node.id: node.command for node in told.nodes}[
        "curated_triplets@1"
    ] == "python -m jobs history curated_triplets@1"


def test_of_very_many_versions_the_newest_are_shown_and_the_others_counted(subject, monkeypatch):
    monkeypatch.setattr("pipelines.report.lineage.MOST_NODES", 2)
    told = lineage(subject)

    assert len([node for node in told.nodes if node.kind == "version"]) == 2
    assert told.left_out == 2
    assert told.is_whole


def test_a_very_long_history_is_not_read_to_its_beginning(subject, monkeypatch):
    monkeypatch.setattr("pipelines.report.lineage.MOST_WALKED", 2)

    assert not lineage(subject).is_whole
