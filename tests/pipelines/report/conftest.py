"""One root for all tests of reports that only read it."""

import pytest

from pipelines.report.quality import Measured, quality
from pipelines.report.subject import Subject
from tests.reported import JUDGE, MODEL, Reported, reported


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Three sources of forty rows, of which one is rotten; two teachers, two curations, an evaluated model."""
    return reported(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="session")
def subject(root: Reported) -> Subject:
    """What a report without --against is about."""
    return Subject.find(root.tables, root.curated)


@pytest.fixture(scope="session")
def measured(root: Reported) -> Measured:
    """The model's figures."""
    (one,) = quality(root.tables, [MODEL], JUDGE)
    return one
