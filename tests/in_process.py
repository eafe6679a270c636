"""`python -m jobs WORDS` in the test's own process, which has its signal handlers back afterwards."""

import signal
import sys

from jobs.__main__ import main

CHANGED = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def run_jobs(*words: object) -> int:
    """The command's exit code."""
    handlers, hook, argv = {number: signal.getsignal(number) for number in CHANGED}, sys.unraisablehook, sys.argv
    sys.argv = ["jobs", *map(str, words)]
    try:
        return main()
    finally:
        sys.argv, sys.unraisablehook = argv, hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
