"""Make triplets of pairs (or a BEIR folder): negatives by BM25, by a bi-encoder's vectors, and random ones.

Goes on where it stopped: each text is encoded once.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import Parameter

from jobs.options import IntakeOptions, JsonOption, StageOptions, plain_number, print_frame, print_versions
from pipelines.stage.errors import UserError

RANDOM = "random"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DryRunOptions:
    """What consistency would leave out, said beforehand."""

    dry_run: Annotated[
        bool, Parameter("--dry-run", help="say what --consistent-within would leave out; only vectors are written")
    ] = False
    share: Annotated[
        float | None,
        Parameter(
            "--share",
            help="dry run: of the queries; if left out 0.01, or about 1,000 queries where that is more",
            converter=plain_number,
        ),
    ] = None

    def checked_share(self) -> float | None:
        """Raises UserError for one that is none, or that nothing asks for."""
        if self.share is not None and (not self.dry_run or not 0 < self.share <= 1):
            raise UserError(f"--share is {self.share:g}, expected above 0, at most 1, of the queries, with --dry-run")
        return self.share


def main(
    *,
    passages: Annotated[str | None, Parameter("--passages", help="further passages to take negatives from")] = None,
    consistent_within: Annotated[
        int | None,
        Parameter("--consistent-within", help="leave out pairs whose positive is not among so many nearest passages"),
    ] = None,
    with_: Annotated[
        str | None, Parameter("--with", help="any of bm25,dense,random; else the recipe's mine.miners and random ones")
    ] = None,
    intake: IntakeOptions,
    dry_run: DryRunOptions = DryRunOptions(),
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.cluster import check, connect
    from pipelines import mine
    from pipelines.mining.consistency import foreseen_lines

    share = dry_run.checked_share()
    miners = [name.strip() for name in with_.split(",")] if with_ is not None else None
    stage = replace(stage, set_=[*(stage.set_ or []), *_overrides(miners, consistent_within)])
    recipe, tables = stage.load()
    if RANDOM in (miners or ()) and recipe.mine.miners and not recipe.mine.random_negatives:
        raise UserError(
            f"--with {with_} asks for random negatives, and mine.random_negatives is 0; say how many of "
            f"{recipe.mine.negatives_per_query}: --set mine.random_negatives=1"
        )
    encoder = recipe.mine.encoder_config(recipe.score)
    if encoder:
        check(**encoder.claims())
    asked = (tables, intake.input_, recipe.mine)
    told = {"passages": passages, "encoder": encoder, "connect": connect, **intake.described()}
    if not dry_run.dry_run:
        return print_versions([mine.run(*asked, **told)], as_json)
    found = mine.foresee(*asked, share, **told)
    if as_json:
        print_frame(found, as_json)
    else:
        print("\n".join(foreseen_lines(found)))


def _overrides(miners: list[str] | None, consistent_within: int | None) -> list[str]:
    """What `--with` and `--consistent-within` say, as --set does."""
    said = [] if consistent_within is None else [f"mine.consistent_within={consistent_within}"]
    if miners is not None:
        said.append(f"mine.miners={[name for name in miners if name != RANDOM]}")
        said += [] if RANDOM in miners else ["mine.random_negatives=0"]
    return said
