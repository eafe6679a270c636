"""Read files of triplets into the triplets table.

JSON Lines, CSV, TSV, Parquet, or a folder of these; told by content and columns.
"""

from jobs.options import IntakeOptions, JsonOption, StageOptions, print_versions


def main(*, intake: IntakeOptions, stage: StageOptions = StageOptions(), as_json: JsonOption = False) -> None:
    from pipelines import ingest

    recipe, tables = stage.load()
    version = ingest.run(tables, intake.input_, recipe.ingest, **intake.described())
    print_versions([version], as_json)
