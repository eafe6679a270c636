"""What a commit says about itself."""

from pipelines.stage.config import Config
from pipelines.storage import Lineage, new_version
from pipelines.storage.commits import IngestedFile, IntakeResult
from schemas import Triplets
from tests.rows import frame_of


class Settings(Config):
    size: int = 1


def test_a_commit_says_where_it_came_from(append, tables):
    first = append(tables, 0, 1)
    with new_version(tables, Triplets, Lineage("mine", [first], Settings(size=3), note="why")) as writer:
        writer.write(frame_of(Triplets))
        writer.result = IntakeResult(ingested_files=(IngestedFile(path="a.csv", rows=1),))

    commit = writer.version.commit
    assert [one.model_dump() for one in commit.inputs] == [first.identity()]
    assert (commit.stage, commit.config, commit.note) == ("mine", {"size": 3}, "why")
    assert commit.reports(IntakeResult) == writer.result
    assert commit.engine.libraries["deltalake"]
    assert commit.code.sources_digest
