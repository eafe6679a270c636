"""dropped_triplets: one row per triplet that a curation left out, with the reason and the scores. Key: triplet_id.

Written by pipelines/curate.py, each curation a whole new version, just before its curated_triplets.
"""

import pandera.polars as pa

from schemas.scored_triplets import ScoredTriplets


class DroppedTriplets(ScoredTriplets):
    drop_reason: str = pa.Field(str_matches=r"^[a-z_]+$")
    curation: str = pa.Field(str_matches=r"^[0-9a-f]{12}$")
    scored_version: str

    class Config:
        name = "dropped_triplets"
        unique = ["triplet_id"]
        metadata = {"statistics": ["triplet_id", "query_id"]}
