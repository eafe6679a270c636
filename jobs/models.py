"""List every model, best first on one common data set.

With its dev value, teacher, BM25, data; on a terminal with a bar for each measured value; --json has all of it.
"""

import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage import hints
from pipelines.stage.printable import counted, on_one_line
from pipelines.stage.progress import tell
from pipelines.stage.terminal import can_print, width_of


def main(
    *,
    on: Annotated[
        str | None,
        Parameter("--on", help="data set of the evaluations, e.g. beir/scifact; else the one most models have"),
    ] = None,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines.inspection.leaderboard import BAR, METRIC, board_lines, chosen_on_dev, leaderboard

    board = leaderboard(root.open(), on)
    if as_json:
        print_frame(board, as_json=True)
        return
    measured = board.drop_nulls("data_set")
    if measured.is_empty():
        tell(hints.completed("no model was evaluated yet: `python -m jobs evaluate --model NAME`"))
    else:
        print(f"{on_one_line(measured['data_set'][0])}: {counted(measured['queries'][0], 'query', 'queries')}")
    print("\n".join(board_lines(board, width_of(sys.stdout), with_bars=can_print(sys.stdout, BAR))))
    for model_id, value, dev_set in chosen_on_dev(board).iter_rows():
        tell(f"best on {dev_set}: {model_id}, {METRIC} {value:.3f}")
