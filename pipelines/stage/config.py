"""Base of every stage's config: frozen plain values, unknown keys refused, one description per field."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

LARGEST = 2**63 - 1


class Config(BaseModel):
    """Hashed whole by `pipelines.storage.fingerprint`: a new field cannot be forgotten."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def field_names(cls) -> list[str]:
        """What a recipe may give of it."""
        return list(cls.model_fields)

    @field_validator("*")
    @classmethod
    def fits_in_64_bits(cls, value: Any) -> Any:
        """Whatever uses it holds it in so many."""
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"expected at most {LARGEST}")
        return value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"learning_rate": 2e-05, "stages.0.name": "vectors", ...}` of nested values."""
    found: dict[str, Any] = {}
    for key, inner in values.items():
        if isinstance(inner, list) and any(isinstance(entry, dict) for entry in inner):  # training stages
            inner = {str(number): entry for number, entry in enumerate(inner)}
        found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": inner}
    return found
