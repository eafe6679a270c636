"""Score every query/passage pair with the recipe's teacher, or give files of plain texts a vector each.

Goes on where it stopped; several may run at once.
"""

from typing import Annotated, Literal

from cyclopts import Parameter

from jobs.options import JsonOption, StageOptions, parse_columns, plain_number, print_versions
from pipelines.stage.errors import UserError


def main(
    *,
    from_: Annotated[str | None, Parameter("--from", help="triplets@version; the newest if not given")] = None,
    share: Annotated[
        float, Parameter("--share", converter=plain_number, help="part of the queries to score, e.g. 0.01")
    ] = 1.0,
    dry_run: Annotated[bool, Parameter("--dry-run", help="say what would be scored, and stop")] = False,
    vectors: Annotated[bool, Parameter("--vectors", help="also store a bi-encoder's vector of each text")] = False,
    texts: Annotated[
        list[str] | None,
        Parameter("--texts", consume_multiple=1, help="files of plain texts: with --vectors a vector each, no scores"),
    ] = None,
    columns: Annotated[
        str | None, Parameter("--columns", help="of --texts: which column holds them, e.g. text=title")
    ] = None,
    kind: Annotated[
        Literal["query", "passage"] | None, Parameter("--kind", help="of --texts: passage if not given")
    ] = None,
    quoting: Annotated[
        Literal["minimal", "none"] | None, Parameter("--quoting", help="of --texts in CSV and TSV, as `ingest` has it")
    ] = None,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.cluster import check, connect
    from jobs.versions import version_to_read
    from pipelines import score

    named = parse_columns(columns)
    _refuse_what_does_not_go_together(texts, vectors, from_, share, named, kind, quoting)
    recipe, tables = stage.load(writes=not dry_run)
    if not dry_run:
        check(**recipe.score.claims())
    if texts:
        versions = score.run_texts(
            tables,
            texts,
            recipe.score,
            connect=connect,
            checks=recipe.ingest,
            column=named.get("text", "text"),
            kind=kind or "passage",
            quoting=quoting,
            dry_run=dry_run,
        )
        return print_versions(versions, as_json)
    triplets = version_to_read(tables, "triplets", from_)
    versions = score.run(triplets, recipe.score, share=share, vectors=vectors, dry_run=dry_run, connect=connect)
    print_versions(versions, as_json)


def _refuse_what_does_not_go_together(
    texts: list[str] | None,
    vectors: bool,
    from_: str | None,
    share: float,
    columns: dict[str, str],
    kind: str | None,
    quoting: str | None,
) -> None:
    if texts and not vectors:
        raise UserError("--texts gives plain texts their vectors; expected --vectors beside it")
    if texts and (from_ or share != 1.0):
        raise UserError("--texts reads files, not triplets; expected neither --from nor --share beside it")
    if not texts and (columns or kind or quoting):
        raise UserError("--columns, --kind and --quoting say how --texts is read; expected --texts beside them")
    if unknown := sorted(columns.keys() - {"text"}):
        raise UserError(f"--columns names {', '.join(unknown)}, expected text=COLUMN alone")
