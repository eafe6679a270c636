"""What a commit says about itself."""

from pipelines.stage.config import Config
from pipelines.storage import Lineage, new_version
from schemas import Triplets
from tests.rows import frame_of


class Settings(Config):
    size: int = 1


def test_a_commit_says_where_it_came_from(append, tables):
    first = append(tables, 0, 1)
    with new_version(tables, Triplets, Lineage("mine", [first], Settings(size=3), note="why")) as writer:
        writer.write(frame_of(Triplets))
        writer.result["counts"] = {"rows": 1}

    told = writer.version.metadata()
    assert told["inputs"] == [first.identity()]
    assert (told["stage"], told["config"], told["note"], told["result"]) == (
        "mine",
        {"size": 3},
        "why",
        {"counts": {"rows": 1}},
    )
    assert told["engine"]["libraries"]["deltalake"]
    assert told["code"]["sources_digest"]
