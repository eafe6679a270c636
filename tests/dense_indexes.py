"""A dense index over given vectors, which stand in a real teacher_vectors."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.mining.dense import DenseIndex, Stored
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, new_version
from schemas import TeacherVectors

TWIN = "twin@0123456789ab"


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def index_of(
    tables: Tables, texts: Mapping[str, tuple[list[str], NDArray[np.float32]]], recall: float | None = None
) -> DenseIndex:
    """Over each kind's ascending text ids and their vectors; a vector with NaN is left out."""
    rows = [
        {"text_id": one, "teacher": TWIN, "kind": kind, "vector": vector.tolist(), "tokens_cut": 0, "text": None}
        for kind, (ids, vectors) in texts.items()
        for one, vector in zip(ids, vectors, strict=True)
        if not np.isnan(vector).any()
    ]
    with new_version(tables, TeacherVectors, Lineage("score", [], Config())) as writer:
        writer.write(pl.DataFrame(rows, schema=TeacherVectors.polars_schema()).sort("text_id", "kind"))
    stored = {
        kind: Stored(writer.version, TWIN, kind, np.array(ids, "S32"), vectors.shape[1])
        for kind, (ids, vectors) in texts.items()
    }
    return DenseIndex(stored["query"], stored["passage"], recall)
