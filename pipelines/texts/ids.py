"""Ids of texts and triplets, sha256 over bytes that never depend on a library's version; and texts that have none."""

import hashlib


def text_id(text: str) -> str:
    """First 32 hex digits of sha256 over the UTF-8 text. Raises UnicodeEncodeError on a lone surrogate."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def triplet_id(query_id: str, positive_id: str, negative_id: str) -> str:
    """First 32 hex digits of sha256 over the three ids joined."""
    return hashlib.sha256(f"{query_id}{positive_id}{negative_id}".encode()).hexdigest()[:32]


def encoding_error(text: str) -> str | None:
    """Why a text cannot be written as UTF-8, as with half a surrogate pair, in one line; None when it can."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"UnicodeEncodeError: {error.reason} at character {error.start}"
    return None
