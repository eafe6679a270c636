"""SIGTERM as a request: what is under way is finished, nothing else is begun.

with finishing() as asked:      # the first SIGTERM sets it; the second does what a SIGTERM did before
    ...                         # at the end of the block so does the first
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def finishing() -> Iterator[threading.Event]:
    """An event that is set where the program is to end soon.

    In the main thread, of a program that handles SIGTERM; elsewhere it is never set.
    """
    asked, before = threading.Event(), signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        asked.set()

    signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
    if asked.is_set():
        signal.raise_signal(signal.SIGTERM)
