"""A share of the queries, chosen by their ids, for what would read every text or hold every row in memory.

Ids are hashes: the queries whose ids are the smallest are as good as drawn, the same ones each time, with all their
rows. Files are clustered by query_id, so the others are skipped by their statistics. The page says the share.
"""

import polars as pl

from pipelines.storage import TableVersion


def share_of_queries(version: TableVersion, max_rows: int) -> tuple[float, pl.Expr]:
    """The share, 0 to 1, that has about `max_rows` rows, and whether a row is in it."""
    num_rows = version.num_rows()
    if num_rows <= max_rows:
        return 1.0, pl.lit(True)
    share = max_rows / num_rows
    return share, pl.col("query_id") < pl.lit(f"{int(share * 16**8):08x}")
