"""The numbers of a stream: its actors, chunks and commits. A stage's config inherits them. Imports no ray."""

from typing import Any

from pydantic import Field

from pipelines.stage.config import Config


class StreamConfig(Config):
    """How the work is spread and how often it is committed."""

    use_gpu: bool | None = None
    """Actors on GPUs (true) or CPUs (false); None is GPUs when the cluster has any at the start. Where GPU nodes come
    from none, say true."""

    num_gpus: float = Field(1.0, gt=0)
    """GPUs that an actor claims; 0.5 puts two on one card."""

    num_cpus: int = Field(1, ge=1)
    """CPUs, and so threads, of an actor without a GPU."""

    max_actors: int | None = Field(None, ge=1)
    """Most actors at once; None is as many as the cluster has room for at the start. On a cluster that brings nodes up
    as they are needed, it is for so many."""

    chunk_rows: int = Field(20_000, ge=1)
    """Most rows of a chunk: some minutes of work, the unit that a kill can lose."""

    commit_every_s: float = Field(10.0, ge=0)
    """Written chunks are committed together, this many seconds apart."""

    def claims(self) -> dict[str, Any]:
        """What one actor claims of a machine, as jobs/cluster.py asks about it."""
        return {"cpus": self.num_cpus, "use_gpu": self.use_gpu, "claimed_by": "score.num_cpus"}
