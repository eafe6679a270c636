"""What a scoring run will take, before it is paid for: counted, sampled and timed on the cluster that will run it.

    plans --count--> chunks --a sample of them, by the teacher on a run's actors--> tokens, tokens/s --> time, cost

Nothing is written.
"""

import math
import time
from collections.abc import Sequence
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import polars as pl

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.forecast import Forecast, Speed, Work, forecast
from pipelines.scoring.streams import PairStream, TeacherStream
from pipelines.scoring.workload import count
from pipelines.stage.errors import UserError
from pipelines.stage.progress import duration, tell
from pipelines.stage.render import aligned_table
from pipelines.stage.sample import Ratio, ratio
from pipelines.storage import QueryRange
from pipelines.streaming.pipeline import empty_pass, num_actors
from pipelines.streaming.rehearsal import Cast, rehearsal
from pipelines.streaming.stream import Plan

if TYPE_CHECKING:
    from pipelines.scoring.calibration import Pace, Reader

SAMPLE = 50_000
"""Pairs, or texts, whose tokens are counted: all, where there are no more. Their mean is then within some 0.5 %."""
ACTORS = (1, 2, 4)
"""Times the actors at hand."""


class Sampled(NamedTuple):
    """What the teacher says of a sample of what it is to read."""

    number: int  # pairs, or texts
    tokens: Ratio  # a piece; what it cuts is not read
    cut: Ratio  # share of those longer than max_tokens


class Price(NamedTuple):
    """What is done, what is left, and what that takes."""

    teacher: str
    config: ScoreConfig  # settled
    plans: dict[str, Plan]  # of texts and of rows, by this name
    pairs: int  # unique, of the rows that are left, without a score
    read: int  # by the teacher: pairs, or texts
    sampled: Sampled | None  # None where the teacher has nothing to read
    speed: Speed | None  # None where nothing is left
    forecasts: list[Forecast]

    @property
    def unit(self) -> str:
        return "texts" if "texts" in self.plans or self.config.teacher_kind == "bi_encoder" else "pairs"

    def told(self, price_per_hour: float | None) -> dict[str, Any]:
        """For programs. Errors are standard errors, in the unit of their value; 0 is counted, not sampled."""
        tokens, cut = (self.sampled.tokens, self.sampled.cut) if self.sampled else (None, None)
        left = {f"{name}_left": plan.num_left for name, plan in self.plans.items()}
        rows = cast(PairStream, self.plans["rows"].stream)
        return {
            "triplets": str(rows.source),
            "share": rows.share,
            "teacher": self.teacher,
            "precision": self.config.precision,
            **{f"{name}_done": plan.num_done for name, plan in self.plans.items()},
            **left,
            "pairs_left": self.pairs,
            "reads": self.unit,
            "read": self.read,
            "tokens": round(self.read * tokens.value) if tokens else 0,
            "tokens_error": self.read * tokens.standard_error if tokens else 0,
            "max_tokens": self.config.max_tokens,
            "cut": round(self.read * cut.value) if cut else 0,
            "cut_error": self.read * cut.standard_error if cut else 0,
            "sampled": self.sampled.number if self.sampled else 0,
            "tokens_per_second": self.speed.tokens if self.speed else None,
            "price_per_hour": price_per_hour,
            "forecasts": [
                {**one._asdict(), "cost": None if price_per_hour is None else one.cost(price_per_hour)}
                for one in self.forecasts
            ],
        }

    def lines(self, price_per_hour: float | None) -> list[str]:
        """For people: what is left, then what it takes."""
        rows = [[name, f"{plan.num_done:,}", f"{plan.num_left:,}", "counted"] for name, plan in self.plans.items()]
        rows.append(["unique pairs", "", f"{self.pairs:,}", "counted"])
        if self.sampled:
            known, tokens, cut = self.sampled.number, self.sampled.tokens, self.sampled.cut
            is_sample = known < self.read
            how = f"+- {tokens.standard_error / tokens.value:.2%}, from {known:,} {self.unit}"
            share = f"{cut.value:.2%} of them" + (f" +- {cut.standard_error:.2%}" if is_sample else "")
            rows += [
                [f"{self.unit} that the teacher reads", "", f"{self.read:,}", "counted"],
                ["tokens", "", f"{self.read * tokens.value:,.0f}", how if is_sample else "counted"],
                [f"cut at {self.config.max_tokens} tokens", "", f"{self.read * cut.value:,.0f}", share],
            ]
        lines = aligned_table(["what", "done", "left", "how known"], rows).split("\n")
        return [line.rstrip() for line in [*lines, *self._forecast_lines(price_per_hour)]]

    def _forecast_lines(self, price_per_hour: float | None) -> list[str]:
        if not self.forecasts:
            return []
        priced = price_per_hour is not None
        rows = [
            [f"{one.actors}", duration(one.seconds), f"{one.actors * one.seconds / 3600:,.2f}"]
            + ([f"{one.cost(price_per_hour or 0):,.2f}"] if priced else [])
            for one in self.forecasts
        ]
        return ["", *aligned_table(["actors", "time", "actor hours", *(["cost"] if priced else [])], rows).split("\n")]


def nothing_left(plans: dict[str, Plan]) -> Price:
    """Of plans of which all is done."""
    stream = plans["rows"].stream
    assert isinstance(stream, PairStream)
    return Price(stream.maker, stream.config, plans, 0, 0, None, None, [])


def price(plans: dict[str, Plan], speed: Speed, checked_rows: int) -> Price:
    """With Ray connected: what is left of these passes, in the order of a run. The teacher reads for the first alone.

    Args:
        speed: of what came before.
        checked_rows: that a run on a new engine scores again before.
    """
    passes = [plan for plan in plans.values() if plan.num_left]
    stream = passes[0].stream
    assert isinstance(stream, TeacherStream)

    @cache
    def counted(place: int, chunks: tuple[QueryRange, ...]) -> pl.DataFrame:
        return count(passes[place], chunks)

    def works(actors: int) -> list[Work]:
        frames = (counted(place, tuple(plan.chunks(actors))) for place, plan in enumerate(passes))
        return [_work(frame, is_read=place == 0) for place, frame in enumerate(frames)]

    actors = num_actors(stream.config)
    chunks = tuple(passes[0].chunks(actors))
    counts = counted(0, chunks)
    read, sampled = int(counts["read"].sum()), None
    started = time.monotonic()
    empty_pass(plans["rows"].stream)
    speed = speed._replace(pass_s=time.monotonic() - started)
    if read:
        sampled, speed = calibrate(stream, chunks, counts, speed)
    asked = speed, sampled.tokens.value if sampled else 0.0, checked_rows
    forecasts = [forecast(works(number), number, *asked) for number in (actors * times for times in ACTORS)]
    last = len(passes) - 1
    pairs = int(counted(last, tuple(passes[last].chunks(actors)))["pairs"].sum())
    return Price(stream.maker, stream.config, plans, pairs, read, sampled, speed, forecasts)


def _work(counts: pl.DataFrame, *, is_read: bool) -> Work:
    return Work(counts["rows"].to_list(), (counts["read"] if is_read else counts["read"] * 0).to_list())


def calibrate(
    stream: TeacherStream, chunks: Sequence[QueryRange], counts: pl.DataFrame, speed: Speed
) -> tuple[Sampled, Speed]:
    """Count a sample's tokens and time the teacher on it, on all the actors that a run would have."""
    samples = _samples(chunks, counts, num_actors(stream.config))
    tell(f"score: timing {stream.maker} on a sample; nothing is written (dry run)")
    with rehearsal(stream.config, partial(_reader, stream)) as cast:
        sampled, paces = _asked(cast, samples, int(counts["read"].sum()))
        load_s = cast.seconds
    found = speed._replace(
        load_s=load_s,
        tokens=sum(pace.tokens for pace in paces) / len(paces),
        slowest=min(pace.slowest for pace in paces),
        fastest=max(pace.fastest for pace in paces),
    )
    tell(f"score: an actor reads {found.tokens:,.0f} tokens/s ({found.slowest:,.0f} to {found.fastest:,.0f})")
    return sampled, found


def _reader(stream: TeacherStream, threads: int | None) -> "Reader":
    from pipelines.scoring.calibration import Reader  # torch: the driver does without

    return Reader(stream, threads)


def _samples(chunks: Sequence[QueryRange], counts: pl.DataFrame, actors: int) -> list[list[QueryRange]]:
    """For each actor some chunks, evenly spaced over what is left: together SAMPLE, or all."""
    busy = counts.filter(pl.col("read") > 0)
    total, wanted = int(busy["read"].sum()), len(busy)
    if total > SAMPLE:
        wanted = min(wanted, max(actors, math.ceil(SAMPLE / total * wanted)))
    chosen = [busy["chunk"][int((place + 0.5) * len(busy) / wanted)] for place in range(wanted)]
    dealt = [[chunks[number] for number in chosen[actor::actors]] for actor in range(actors)]
    return [some for some in dealt if some]


def _asked(cast: Cast, samples: list[list[QueryRange]], total: int) -> tuple[Sampled, list["Pace"]]:
    """Each actor its sample; where fewer actors came, they have those of the others, too."""
    actors = min(len(cast), len(samples))
    shared = [list(chain.from_iterable(samples[place::actors])) for place in range(actors)]
    summed = pl.concat(cast.ask("count", [(some,) for some in shared])).sum().row(0, named=True)
    if not (counted := int(summed["tokens_x"])):
        raise UserError("another run has scored this since: nothing is left to time the teacher on; ask again")
    sampled = min(1.0, counted / total)
    tokens, cut = (
        ratio(sampled, **{name: summed[f"{of}_{name}"] for name in ("clusters", "x", "y", "xx", "xy", "yy")})
        for of in ("tokens", "cut")
    )
    return Sampled(counted, tokens, cut), cast.ask("time", [()] * len(shared))
