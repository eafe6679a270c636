"""What belongs to a curated version: the curation that made it, and the rows which that curation dropped."""

from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.storage.commits import CurationResult


def curation_of(curated: TableVersion) -> CurationResult:
    """What the curation reported that made these rows. Raises UserError for a version that curate did not write."""
    result = curated.written().commit.reports(CurationResult)
    if result is None:
        raise UserError(f"{curated} was not made by a curation; expected a version that `curate` printed")
    return result


def dropped_by(curated: TableVersion) -> TableVersion | None:
    """The dropped_triplets of the same curation, told by its id; None where they are gone."""
    curation = curation_of(curated).curation
    newest = curated.tables.latest("dropped_triplets")
    for version, result in newest.results(CurationResult) if newest else ():
        if result.curation == curation != "":
            return version
    return None
