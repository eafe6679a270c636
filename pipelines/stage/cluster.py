"""Where Ray's work is done, on this machine or on a named cluster, and what is said where there is too little for it.

Needs no ray: distill asks before it starts, the actors' pool and the training once it has.
"""

import os

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell


def named_cluster() -> str | None:
    """The cluster that RAY_ADDRESS names; None where one is started on this machine."""
    named = os.environ.get("RAY_ADDRESS", "")
    return None if named in ("", "local") else named


def check_there_is(kind: str, needed: float, there: float, told: str, field: str) -> None:
    """A cluster's autoscaler may still add nodes; a machine has what it has, and the run would wait for ever.

    Args:
        kind: CPU or GPU.
        told: who needs them, `distill: 4 workers need a CPU each`.
        field: of the recipe, that says so.
    Raises:
        UserError: this machine has less than is needed.
    """
    if needed <= there:
        return
    told = f"{told}, and there are {there:g} {kind}s"
    if named_cluster() is None:
        raise UserError(f"{told}; lower {field}, or set RAY_ADDRESS to a cluster that has more")
    tell(f"{told}: waiting for more nodes; without an autoscaler, stop and lower {field}")
