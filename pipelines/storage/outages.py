"""An object store that answers with errors is waited for: what each library that reaches it is told.

Left to themselves they give up after one to five seconds of errors (each request answered with 503: tried). All of
them wait longer from one attempt to the next: five seconds at most, pyarrow twenty.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

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


class ArrowS3(fs.S3FileSystem):  # type: ignore[misc]  # pyarrow has no types for it
    """pyarrow's, which waits so long. It counts attempts: the wait after attempt n is up to 2^n s, 20 s at most.

    pyarrow forgets its retries when it is sent to another process; this one does not. Keys come from the environment.
    """

    def __init__(self, outage_s: float, **given: Any) -> None:
        attempts = max(3, round(4 + outage_s / 10))
        super().__init__(**given, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts))
        self._made_of = (outage_s, given)

    def __reduce__(self) -> Any:
        return _arrow_s3, self._made_of


def _arrow_s3(outage_s: float, given: dict[str, Any]) -> ArrowS3:
    return ArrowS3(outage_s, **given)


def obstore_retries(outage_s: float) -> "RetryConfig":
    """For obstore."""
    return {
        "max_retries": ATTEMPTS,
        "retry_timeout": timedelta(seconds=outage_s),
        "backoff": {"max_backoff": timedelta(seconds=LONGEST_WAIT_S)},
    }
