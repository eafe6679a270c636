"""The objective's numbers: the fields of every loss term, flat in the recipe, read without torch.

A term is a class here, whose first field is its weight and has the term's name; a module beside this one, which
computes it; and its line in registry.py.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.stage.config import Config

WEIGHT, LEARNS_FROM_VECTORS = "a term's weight", "of a term that learns from the teacher's vectors"  # marks of fields


class TermConfig(Config):
    """What all terms have in common."""

    dimensions: tuple[int, ...] = (768, 512, 256, 128, 64)
    """Matryoshka dimensions: the student is trained to rank well when its vectors are cut to any of them."""


class MarginMseConfig(TermConfig):
    """Of margin_mse.py."""

    margin_mse: Annotated[float, WEIGHT] = Field(1.0, ge=0)
    """Weight of MarginMSE, the mean over the step's triplets; 0 is off."""
    margin_target: Literal["relevance_margin", "score_margin"] = "relevance_margin"
    """The teacher's margin between positive and negative: of its relevances (-1..1), or of its raw scores."""
    margin_scale: float = Field(1.0, gt=0)
    """The student's cosine margin (at most 2) times this is compared with the teacher's margin.
    1 for relevances or cosines, about 20 for the raw logits of a cross-encoder (measured: README, Results)."""


class InfoNceConfig(TermConfig):
    """Of info_nce.py."""

    info_nce: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of InfoNCE, the mean over the step's queries, against every passage of the step on all ranks; 0 is off."""
    temperature: float = Field(0.05, gt=0)
    """InfoNCE divides cosines by it."""


class VectorsConfig(TermConfig):
    """Of vectors.py."""

    vectors: Annotated[float, WEIGHT, LEARNS_FROM_VECTORS] = Field(0.0, ge=0)
    """Weight of the regression to a bi-encoder teacher's vectors, the mean over the step's texts; 0 is off."""
    vectors_distance: Literal["l2", "cosine"] = "l2"
    """Squared L2 distance of unit vectors, or 1 - cosine, which is half of it."""


class ObjectiveConfig(VectorsConfig, InfoNceConfig, MarginMseConfig):
    """What the student learns: the weighted sum of the terms, each summed over the Matryoshka dimensions.

    Fields come from the last base to the first: a new term stands first, and its values are added to the sum last.
    """

    @model_validator(mode="after")
    def _some_term_is_on(self) -> "ObjectiveConfig":
        if not any(self.weights().values()):
            raise ValueError(f"the weights of {', '.join(self.weights())} are all 0, expected at least one above 0")
        return self

    def weights(self, mark: str = WEIGHT) -> dict[str, float]:
        """The weight of each term whose field is so marked, those that are off included."""
        return {name: getattr(self, name) for name, field in type(self).model_fields.items() if mark in field.metadata}

    def weights_on_teacher_vectors(self) -> dict[str, float]:
        """The weights of the terms that are on and learn from the teacher's vectors."""
        return {term: weight for term, weight in self.weights(LEARNS_FROM_VECTORS).items() if weight}
