"""Prompts as texts with {places}: what a recipe's own must have, and how they are filled in."""

import re
from collections.abc import Mapping, Sequence


def missing_places(prompt: str, places: Sequence[str]) -> list[str]:
    """The {places} that a prompt lacks."""
    return [f"{{{name}}}" for name in places if f"{{{name}}}" not in prompt]


def lacks(prompt: str, places: Sequence[str]) -> str | None:
    """What is wrong with a prompt that has not all of them; None where it has."""
    missing = missing_places(prompt, places)
    expected = ", ".join(f"{{{place}}}" for place in places)
    return f"lacks {', '.join(missing)}, expected {expected}" if missing else None


def filled(prompt: str, values: Mapping[str, str]) -> str:
    """The prompt with its places filled in one go, so that a value's own braces stay as they are."""
    return re.sub(rf"\{{({'|'.join(values)})\}}", lambda found: values[found[1]], prompt)
