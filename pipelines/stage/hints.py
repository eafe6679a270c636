"""Commands of ours in a line that is told, ready to be pasted: with the root and recipe that this process was given."""

from collections.abc import Callable

completed: Callable[[str], str] = str
"""The line with the user's own options in its commands, as in `python -m jobs score`; jobs/__main__.py says how."""
