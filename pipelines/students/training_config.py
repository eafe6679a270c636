"""Every number of one training: what is learnt (objective/), from which batches, how, and which step is taken.

config.py puts the student and its stages beside it. Read without torch.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from pipelines.stage.config import Config

WEIGHT, LEARNS_FROM_VECTORS = "a term's weight", "on, it needs the teacher's vectors"  # marks of fields
WITHOUT_TRIPLETS = {"vectors", "spread_out"}  # the terms that plain texts suffice for


def _number_or_fitted(above: float, expected: str) -> BeforeValidator:
    """One error where a union's members would each have their own."""

    def check(value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf
        if value != "fitted" and not is_number:
            raise ValueError(f"expected {expected}, or 'fitted'")
        return value

    return BeforeValidator(check)


Scale = Annotated[float | Literal["fitted"], _number_or_fitted(0, "a number above 0")]
Offset = Annotated[float | Literal["fitted"], _number_or_fitted(-math.inf, "a number")]


class ObjectiveConfig(Config):
    """What the student learns: the weighted sum of the terms, each summed over the Matryoshka dimensions.

    A term is a weight of its name here, with the fields it needs; a module of objective/; a line in its registry.py.
    """

    dimensions: tuple[Annotated[int, Field(ge=1)], ...] = Field((768, 512, 256, 128, 64), min_length=1)
    """Matryoshka dimensions: the student is trained to rank well when its vectors are cut to any of them."""
    margin_mse: Annotated[float, WEIGHT] = Field(1.0, ge=0)
    """Weight of MarginMSE, the mean over the step's triplets; 0 is off."""
    margin_target: Literal["relevance_margin", "score_margin"] = "relevance_margin"
    """The teacher's margin between positive and negative: of its relevances (-1..1), or of its raw scores."""
    margin_scale: Scale = 1.0
    """The student's cosine margin (at most 2) times this is compared with the teacher's margin.
    1 for relevances or cosines, about 20 for the raw logits of a cross-encoder (measured: jobs/recipes/README.md);
    "fitted": where the margins of the first steps are as large as the teacher's, and trained from there."""
    info_nce: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of InfoNCE, the mean over the step's queries, against every passage of the step on all ranks; 0 is off."""
    temperature: float = Field(0.05, gt=0)
    """InfoNCE divides cosines by it."""
    info_nce_false_negative_share: Annotated[float, LEARNS_FROM_VECTORS] = Field(0.0, ge=0)
    """InfoNCE leaves out each passage of the step whose cosine with the query, by the teacher's vectors, is above this
    share of the positive's: it is taken for a false negative. 0.95 is NV-Retriever's, 1 GISTEmbed's; 0 is off."""
    info_nce_false_negative_margin: float = Field(0.0, ge=0)
    """What is taken off that share of the positive's cosine, too: a share of 1 and a margin of 0.05 leave out what
    comes within 0.05 of the positive, or above it."""
    vectors: Annotated[float, WEIGHT, LEARNS_FROM_VECTORS] = Field(0.0, ge=0)
    """Weight of the regression to a bi-encoder teacher's vectors, the mean over the step's texts; 0 is off."""
    vectors_distance: Literal["l2", "cosine"] = "l2"
    """Squared L2 distance of unit vectors, or 1 - cosine, which is half of it."""
    vectors_axes: Literal["teacher", "principal"] = "teacher"
    """teacher: the teacher's vectors as they are. principal: turned to their principal axes, those along which they
    differ most first, and cut to the student's width, so that a cut embedding keeps the most that it can; the student
    learns to turn by its dense head."""
    vectors_projection: bool = False
    """Compare the teacher's vector with a linear projection of the student's embedding, at each dimension with all of
    the teacher's vector: needed where the teacher is of another width. It is trained, and kept beside the model."""
    kl: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of the listwise KL(teacher || student) over each query's candidates, the mean over the step's queries
    with two or more; 0 is off."""
    kl_target: Literal["relevance", "score"] = "relevance"
    """What of the teacher's is divided by its temperature: its relevance (0..1), or its raw score."""
    kl_student_temperature: float = Field(0.05, gt=0)
    """The student's cosines are divided by it, as InfoNCE's are by `temperature`."""
    kl_teacher_temperature: float = Field(0.05, gt=0)
    """Of a query's candidates, those that the teacher rates several times this below its best hardly count: 0.05 for
    relevances and for a bi-encoder's scores (cosines), about 1 for a cross-encoder's (logits)."""
    pointwise: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of the squared error of each candidate's cosine against what the teacher says of it, the mean over the
    step's candidates; 0 is off."""
    pointwise_target: Literal["relevance", "score"] = "relevance"
    """What the teacher says of a candidate: its relevance (0..1), or its raw score."""
    pointwise_scale: Scale = 1.0
    """The student's cosine times this, plus `pointwise_offset`, is compared with the target; "fitted" as
    `margin_scale`. A bi-encoder's relevance is (1 + cosine) / 2, so scale and offset 0.5 make its own cosine exact."""
    pointwise_offset: Offset = 0.0
    """Added to the scaled cosine; "fitted": where the first steps' mean is the teacher's, and trained from there."""
    spread_out: Annotated[float, WEIGHT] = Field(0.0, ge=0)
    """Weight of the spread-out regulariser: how far the mean squared cosine of different queries of the step, and that
    of different passages, is above that of random directions; 0 is off."""

    @model_validator(mode="after")
    def _some_term_is_on(self) -> Self:
        if not any(self.weights().values()):
            raise ValueError(f"the weights of {', '.join(self.weights())} are all 0, expected at least one above 0")
        if self.vectors_projection and self.vectors_axes == "principal":
            raise ValueError("vectors_projection is true and vectors_axes is principal, expected at most one of them")
        if self.info_nce_false_negative_margin and not self.info_nce_false_negative_share:
            raise ValueError(
                f"info_nce_false_negative_margin is {self.info_nce_false_negative_margin}, but without "
                "info_nce_false_negative_share nothing is left out: set that to 1, or the margin to 0"
            )
        return self

    def weights(self, mark: str = WEIGHT) -> dict[str, float]:
        """The value of each field that is so marked, those that are off (0) included."""
        return {name: getattr(self, name) for name, field in type(self).model_fields.items() if mark in field.metadata}

    def weights_on_teacher_vectors(self) -> dict[str, float]:
        """The fields for which the teacher's vectors are needed, each off at 0: a term's weight, or part of a term."""
        needed = {name: value for name, value in self.weights(LEARNS_FROM_VECTORS).items() if value}
        if not self.info_nce:
            needed.pop("info_nce_false_negative_share", None)
        return needed


class BatchConfig(Config):
    """Which triplets, or plain texts, make a step, and how many steps there are."""

    data: Literal["triplets", "texts"] = "triplets"
    """texts: every text that has a vector of the wanted teacher, those of `score --vectors --texts` included; without
    triplets, so only terms that need none may be on. What is said of triplets and candidates below is then idle."""
    where: str | None = None
    """A condition over the rows of curated_triplets, in SQL, like "source = 'faq' AND teacher_margin > 1": the others
    are left out. Of data = "texts" it filters the triplets whose texts are taken."""
    source_weights: dict[str, Annotated[float, Field(ge=0)]] = Field({})
    """How often an epoch sees each query of a source, in expectation; 1 where none is given, 0 leaves it out. A query
    that several sources have is of the source of its first triplet, by id. It is never twice in one step, so a weight
    above 1 makes several passes of an epoch."""
    candidates_per_query: int | None = Field(None, ge=2)
    """So many of a query's candidates are drawn for it, each epoch anew: its positives, and at least one other; None
    takes all. Triplets whose negative is not drawn are left out of that step."""
    candidates: Literal["stratified", "hardest", "random"] = "stratified"
    """Which candidates: one of each of as many equal parts of the query's candidates in the order of their scores (so
    the whole range), those with the highest scores, or any."""
    candidates_from: Literal["curated", "scored"] = "curated"
    """A query's candidates: the passages of its curated rows; or also those of the rows that the curation dropped or
    corrected, which have the same teacher's scores."""
    epochs: int = Field(3, ge=1)
    """How often every triplet, or text, is seen."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many steps, the learning rate decaying towards that end; None trains all epochs."""
    triplets_per_step: int = Field(128, ge=1)
    """Triplets a step on all workers together, on average: a query's triplets stay together."""
    texts_per_step: int = Field(256, ge=1)
    """Texts a step on all workers together, where data = "texts"."""
    length_window_steps: int = Field(50, ge=1)
    """Groups are sorted by length inside random windows of so many steps; 1 samples without regard to length."""
    seed: int = Field(0, ge=0)
    """Of the batch plan, and of dropout where there is any."""


class OptimizerConfig(Config):
    """What moves the weights, and how far."""

    learning_rate: float = Field(2e-5, gt=0)
    """Highest learning rate, reached after the warm-up; it then falls linearly to 0."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decay of matrices; biases and norms have none."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon moves the matrices of layers and heads, AdamW all else. Its steps are scaled to the size of AdamW's
    (0.2 sqrt(the longer side)), so learning_rate and weight_decay mean the same to both. It iterates in float32 where
    precision is float32, else in bf16."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    freeze_embeddings: bool = False
    """Leave the token embeddings as the source has them: often more than half of a small student's weights, and so of
    what every step sends between ranks and keeps for the optimizer."""


class EngineConfig(Config):
    """How a step is computed: changes speed, memory and last bits, not what is learnt."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """0: a distilled student needs none, and masks would depend on the number of workers."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Of the encoder's arithmetic; weights and losses stay float32. auto: bf16 on a GPU, and on a CPU that has
    instructions for it and was measured faster with them, else float32. A run keeps what it began with."""
    unpadded: bool = True
    """Call the encoder on texts laid end to end, without padding between them, where the family, the pooling and
    `dropout` allow it."""
    compiled: bool = True
    """On a GPU, where nothing is padded: fuse what stands between the products of the encoder's layers (torch.compile,
    up to half a minute at the start, needs a C compiler). Other last bits, up to twice the speed."""
    tokens_per_forward: int | None = Field(None, ge=1)
    """Tokens of one sub-forward, padding included; None: on a GPU 32,768, on a CPU 4,096 if unpadded and nothing is
    recomputed, else 1,024."""
    recompute_embeddings: bool = False
    """Embed every text twice, without and then with its graph: memory of one sub-forward instead of the whole step,
    for one more forward (about a third more time)."""
    checkpoint_every_steps: int = Field(500, ge=1)
    """A run that is killed goes on from its last checkpoint."""
    threads_per_worker: int = Field(1, ge=1)
    """CPU threads of each worker: another number gives other last bits, so it is fixed here, not by the machine."""


class ChoiceConfig(Config):
    """Which student is taken: the last step's, or the best by nDCG@10 on the dev split; as trained, or averaged."""

    start_share: float = Field(0.0, ge=0, lt=1)
    """Average the student with what the training (or stage) began with, which has this share (WiSE-FT): where that is
    a whole model, not a pick of its layers, it keeps what that knew of texts that are not trained on."""

    dev_every_steps: int | None = Field(None, ge=1)
    """Measure nDCG@10 on a sample of the dev split after every so many steps and after the last one, and take the best
    student, the first of equals; None takes the last one. Needs curate.dev_share."""
    dev_queries: int = Field(300, ge=1)
    """Most dev queries that are asked."""
    dev_passages: int = Field(5_000, ge=1)
    """Most passages that they are asked of: the relevant ones, the queries' negatives, then others by their ids. With
    dev_queries it bounds what an evaluation embeds, and so its time."""
    dev_dimensions: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1)
    """The best has the highest mean of nDCG@10 over these dimensions. None is all of `dimensions`: the loss is their
    sum, and the student is published to be cut to any of them."""
    early_stop_after: int | None = Field(None, ge=1)
    """Stop after so many dev evaluations in a row without a better one; None trains all steps."""

    @model_validator(mode="after")
    def _stops_by_what_is_measured(self) -> Self:
        if self.early_stop_after and not self.dev_every_steps:
            raise ValueError("early_stop_after counts dev evaluations, and there are none: set dev_every_steps")
        return self


class TrainingConfig(ChoiceConfig, EngineConfig, OptimizerConfig, BatchConfig, ObjectiveConfig):
    """How the student is trained; the defaults are the guide's."""

    @model_validator(mode="after")
    def _texts_need_no_triplets(self) -> Self:
        on = [term for term, weight in self.weights().items() if weight]
        if self.data == "texts" and (not self.vectors or set(on) - WITHOUT_TRIPLETS):
            raise ValueError(
                f"data is 'texts', which have no triplets, and the terms {', '.join(on)} are on; expected vectors, and "
                f"of the others at most {', '.join(sorted(WITHOUT_TRIPLETS - {'vectors'}))}: set the others to 0"
            )
        return self

    @model_validator(mode="after")
    def _chooses_by_what_is_trained(self) -> Self:
        if unknown := set(self.dev_dimensions or ()) - set(self.dimensions):
            raise ValueError(f"dev_dimensions has {sorted(unknown)}, expected some of dimensions {self.dimensions}")
        return self

    def choosing_dimensions(self) -> tuple[int, ...]:
        """The dimensions over which a student's nDCG@10 is averaged, to find the best one."""
        return self.dev_dimensions or self.dimensions
