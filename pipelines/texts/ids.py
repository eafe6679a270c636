"""Ids of texts and triplets: sha256 over bytes that never depend on a library's version."""

import hashlib


def text_id(text: str) -> str:
    """First 32 hex digits of sha256 over the UTF-8 text. Raises UnicodeEncodeError on a lone surrogate."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def triplet_id(query_id: str, positive_id: str, negative_id: str) -> str:
    """First 32 hex digits of sha256 over the three ids joined."""
    return hashlib.sha256(f"{query_id}{positive_id}{negative_id}".encode()).hexdigest()[:32]
