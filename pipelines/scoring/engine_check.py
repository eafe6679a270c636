"""Other libraries or hardware than a teacher has scored with: does it still give the same scores there?"""

import json

import polars as pl

from pipelines.scoring.pairs import NO_PAIRS, pairs_of
from pipelines.scoring.streams import PairStream
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage.commits import ScoringEngine, ScoringResult
from pipelines.streaming.pipeline import work_once
from schemas import Triplets


def check_engine(scoring: PairStream) -> None:
    """On an engine that has not scored for this teacher yet, score some existing rows again and compare.

    Raises:
        UserError: a score differs by more than the tolerance.
    """
    config, teacher = scoring.config, scoring.maker
    existing, engine = scored_elsewhere(scoring)
    if engine is None:
        return
    again = work_once(scoring, existing.select(Triplets.polars_schema().keys()), NO_PAIRS)
    pairs = pairs_of(existing).join(pairs_of(again), on=["query_id", "passage_id"], suffix="_again")
    difference = pairs.select((pl.col("score") - pl.col("score_again")).abs().max()).item()
    before, now = (json.dumps(one.model_dump()) for one in (engine, scoring.engine()))
    if difference is None or not difference <= config.engine_tolerance:
        raise UserError(
            f"{teacher} on this engine gives scores up to {difference} away from those in {scoring.newest()}, the "
            f"tolerance is {config.engine_tolerance} (then {before}, now {now}); score on the old engine, "
            f"allow it with --set score.engine_tolerance=..., or score into another root"
        )
    tell(f"new engine: {len(pairs):,} pairs scored again, largest difference {difference:.2g}: goes on")


def scored_elsewhere(scoring: PairStream) -> tuple[pl.DataFrame, ScoringEngine | None]:
    """Rows to score again, and the engine that scored them; no rows where this engine has scored for the teacher, or
    nobody has."""
    config, scored = scoring.config, scoring.newest()
    if scored is None or not config.engine_check_pairs:
        return pl.DataFrame(), None
    engines = [result.engine for _, result in scored.results(ScoringResult) if result.teacher == scoring.maker]
    if not engines or scoring.engine() in engines:
        return pl.DataFrame(), None
    return scored.scan().filter(scoring.is_good()).head(config.engine_check_pairs).collect(), engines[0]
