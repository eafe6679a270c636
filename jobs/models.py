"""List every model with its data, recipe and figures."""

from jobs.options import JsonOption, RootOptions, print_frame


def main(*, root: RootOptions = RootOptions(), as_json: JsonOption = False) -> None:
    from pipelines.inspection.queries import leaderboard

    print_frame(leaderboard(root.open()), as_json)
