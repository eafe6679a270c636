"""Base of every stage's config: frozen plain values, unknown keys refused, one description per field."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Hashed whole by `pipelines.storage.fingerprint`: a new field cannot be forgotten."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
