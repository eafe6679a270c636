"""Score every query/passage pair with the recipe's teacher, or give plain texts a vector each.

Goes on where it stopped; several may run at once.
"""

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jobs.options import JsonOption, StageOptions, parse_columns, plain_number, print_versions
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from pipelines.scoring.price import Price

PriceOption = Annotated[
    float | None,
    Parameter("--price-per-hour", converter=plain_number, help="with --dry-run: what an hour of one actor costs"),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Plain texts, without triplets, and how their files are read."""

    texts: Annotated[
        list[str] | None,
        Parameter("--texts", consume_multiple=1, help="files of plain texts: with --vectors a vector each, no scores"),
    ] = None
    columns: Annotated[
        str | None, Parameter("--columns", help="of --texts: which column holds them, e.g. text=title")
    ] = None
    kind: Annotated[
        Literal["query", "passage"] | None, Parameter("--kind", help="of --texts: passage if not given")
    ] = None
    quoting: Annotated[
        Literal["minimal", "none"] | None, Parameter("--quoting", help="of --texts in CSV and TSV, as `ingest` has it")
    ] = None

    def column(self, *, vectors: bool, from_: str | None, share: float) -> str:
        """Which one holds the texts. Raises UserError for options that do not go together."""
        named = parse_columns(self.columns)
        if self.texts and not vectors:
            raise UserError("--texts gives plain texts their vectors; expected --vectors beside it")
        if self.texts and (from_ or share != 1.0):
            raise UserError("--texts reads files, not triplets; expected neither --from nor --share beside it")
        if not self.texts and (named or self.kind or self.quoting):
            raise UserError("--columns, --kind and --quoting say how --texts is read; expected --texts beside them")
        if unknown := sorted(named.keys() - {"text"}):
            raise UserError(f"--columns names {', '.join(unknown)}, expected text=COLUMN alone")
        return named.get("text", "text")


def main(
    *,
    from_: Annotated[
        str | None, Parameter("--from", help="triplets@version, with --varied curated_triplets@version; or the newest")
    ] = None,
    share: Annotated[
        float, Parameter("--share", converter=plain_number, help="part of the queries to score, e.g. 0.01")
    ] = 1.0,
    dry_run: Annotated[bool, Parameter("--dry-run", help="say what it would do, and how long it would take")] = False,
    price_per_hour: PriceOption = None,
    vectors: Annotated[bool, Parameter("--vectors", help="also store a bi-encoder's vector of each text")] = False,
    varied: Annotated[
        bool, Parameter("--varied", help="with --vectors: of varied copies of the passages in training alone")
    ] = False,
    plain: TextOptions = TextOptions(),
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    began = time.monotonic()

    from jobs.cluster import check, connect
    from jobs.versions import version_to_read
    from pipelines import score

    column = plain.column(vectors=vectors, from_=from_, share=share)
    if varied and (not vectors or plain.texts or share != 1.0):
        raise UserError("--varied goes with --vectors, and with neither --texts nor --share")
    _check_price(price_per_hour, asked=dry_run and not plain.texts and not varied)
    recipe, tables = stage.load(writes=not dry_run)
    if not (dry_run and (plain.texts or varied)):  # that only counts
        check(**recipe.score.claims())
    if plain.texts:
        read = score.TextFiles(plain.texts, column, plain.kind or "passage", plain.quoting)
        versions = score.run_texts(tables, read, recipe.score, checks=recipe.ingest, connect=connect, dry_run=dry_run)
    elif varied:
        curated = version_to_read(tables, "curated_triplets", from_)
        versions = score.run_varied(curated, recipe.score, connect=connect, dry_run=dry_run)
    elif dry_run:
        triplets = version_to_read(tables, "triplets", from_)
        price = score.ask_price(triplets, recipe.score, share=share, vectors=vectors, connect=connect, began=began)
        return _print_price(price, price_per_hour, as_json)
    else:
        triplets = version_to_read(tables, "triplets", from_)
        versions = score.run(triplets, recipe.score, share=share, vectors=vectors, connect=connect)
    print_versions(versions, as_json)


def _print_price(price: "Price", price_per_hour: float | None, as_json: bool) -> None:
    told = [json.dumps(price.told(price_per_hour))] if as_json else price.lines(price_per_hour)
    print(*told, sep="\n")


def _check_price(price_per_hour: float | None, *, asked: bool) -> None:
    if price_per_hour is not None and not asked:
        raise UserError("--price-per-hour goes with --dry-run of triplets, which says how many hours it takes")
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise UserError(f"--price-per-hour is {price_per_hour}, expected the price of one actor's hour: 0 or more")
