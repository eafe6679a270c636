"""A pseudo-terminal, read as a person reads a screen: until nothing more comes."""

import os
import select


def written_to(master: int) -> str:
    """What was written since to the terminal that this descriptor is the other end of."""
    written = b""
    while select.select([master], [], [], 0.1)[0]:
        written += os.read(master, 100_000)
    return written.decode().replace("\r\n", "\n")
