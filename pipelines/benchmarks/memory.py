"""The most memory that a process has held so far."""

import resource
import sys
from pathlib import Path


def peak_memory_mb(process: int | str = "self") -> float:
    """Megabytes of physical memory, at most, since this program began; on Linux also another's, by its number.

    On Linux what getrusage says is no use to a process that another one started: it begins with that one's peak.
    """
    if sys.platform == "linux":
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / 1024
    in_bytes = sys.platform == "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if in_bytes else 1024)
