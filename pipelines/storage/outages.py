"""An object store that answers with errors is waited for: what each library that reaches it is told.

Left to themselves they give up after one to five seconds of errors (each request answered with 503: tried). All of
them wait longer from one attempt to the next, five seconds at most.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from pyarrow import fs

if TYPE_CHECKING:
    from obstore.store import RetryConfig

OUTAGE_S = 120.0
"""So long is waited. An answer that is an error of ours (no such bucket, access denied) is waited for by none."""

HASTE_S = 3.0
"""So long where a command begins: a wrong address is told at once."""

LONGEST_WAIT_S = 5.0
ATTEMPTS = 250  # more than there is time for


def delta_retries(outage_s: float) -> dict[str, str]:
    """For delta-rs, among its storage options."""
    longest = f"{LONGEST_WAIT_S:g}s"
    return {"max_retries": str(ATTEMPTS), "retry_timeout": f"{outage_s:g}s", "backoff_config.max_backoff": longest}


def polars_retries(outage_s: float) -> dict[str, int]:
    """For polars, among its storage options."""
    longest_ms = int(LONGEST_WAIT_S * 1000)
    return {"max_retries": ATTEMPTS, "retry_timeout_ms": int(outage_s * 1000), "retry_max_backoff_ms": longest_ms}


def arrow_retries(outage_s: float) -> fs.S3RetryStrategy:
    """For pyarrow, which counts attempts: the wait after attempt n is up to 2^n s, of those after the fourth 20 s."""
    return fs.AwsStandardS3RetryStrategy(max_attempts=max(3, round(4 + outage_s / 10)))


def obstore_retries(outage_s: float) -> "RetryConfig":
    """For obstore."""
    return {
        "max_retries": ATTEMPTS,
        "retry_timeout": timedelta(seconds=outage_s),
        "backoff": {"max_backoff": timedelta(seconds=LONGEST_WAIT_S)},
    }
