"""Fingerprints of configs: sha256 over canonical JSON, which never depends on a library's version."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def fingerprint(config: BaseModel) -> str:
    """12 hex digits over the canonical JSON of the whole config."""
    return fingerprint_of(config.model_dump(mode="json"))


def fingerprint_of(value: Any) -> str:
    """12 hex digits over canonical JSON (sorted keys, no spaces). Raises TypeError on a value without stable bytes."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
