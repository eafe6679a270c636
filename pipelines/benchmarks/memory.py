"""The most memory that this process has held so far."""

import resource
import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """Megabytes of physical memory, at most, since this program began.

    On Linux what getrusage says is no use to a process that another one started: it begins with that one's peak.
    """
    if sys.platform == "linux":
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / 1024
    in_bytes = sys.platform == "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if in_bytes else 1024)
