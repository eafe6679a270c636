"""The encoder that a student is made of, as its files describe it: what can be asked of it, without loading it.

    DistillConfig  --Source.find-->  family, layers, width, longest input, prompts  --pick-->  the student's layers

Read without torch: what does not fit is refused in a second, before Ray starts.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pipelines.checkpoints.find import find
from pipelines.checkpoints.inspect import (
    check_checkpoint,
    check_family,
    encoder_config,
    encoder_folder,
    longest_input,
    own_prompts,
)
from pipelines.stage.errors import UserError
from pipelines.students.config import DistillConfig, LayerPick


class Source(NamedTuple):
    """What a config.json says; None where it does not."""

    folder: Path
    family: str
    num_layers: int | None
    width: int | None
    longest_input: int | None
    num_heads: int | None = None

    @classmethod
    def find(cls, config: DistillConfig) -> "Source":
        """The source of a config. Raises UserError when it is not there, or nothing that a student is made of."""
        folder = find(config.source_model)
        check_checkpoint(folder, "transformers import AutoModel")
        encoder_folder(folder)
        return cls.of(folder, encoder_config(folder))

    @classmethod
    def of(cls, folder: Path, settings: dict[str, Any]) -> "Source":
        family = settings.get("model_type")
        check_family(folder, family)
        layers, width = settings.get("num_hidden_layers"), settings.get("hidden_size")
        return cls(folder, str(family), layers, width, longest_input(settings), settings.get("num_attention_heads"))

    def student_width(self, config: DistillConfig) -> int | None:
        """Length of the student's vectors."""
        return config.width or self.width

    def pick(self, config: DistillConfig) -> list[int]:
        """Which layers become the student's. Raises UserError when the source is too small for what is asked."""
        self._check_width(config.width)
        dimensions, width = list(config.dimensions), self.student_width(config)
        if not dimensions or min(dimensions) < 1 or (width is not None and max(dimensions) > width):
            whose = "source" if config.width is None else "student"
            raise UserError(
                f"dimensions are {dimensions}, but the {whose} is {width} wide: give one or more, each from 1 to "
                f"{width}"
            )
        if len(set(dimensions)) < len(dimensions):
            raise UserError(
                f"dimensions are {dimensions}, expected each once: the terms of a dimension would count twice"
            )
        if self.longest_input is not None and config.max_tokens > self.longest_input:
            raise UserError(
                f"max_tokens is {config.max_tokens}, but the source reads at most {self.longest_input} tokens: lower "
                "max_tokens"
            )
        if self.num_layers is None:
            return []
        picked = pick_layers(self.num_layers, config.num_layers, config.layers)
        if self.family == "modernbert" and picked[0] != 0:
            raise UserError(
                f"layers picked are {picked}, but a ModernBERT student must begin with layer 0: that layer alone has "
                "no norm before its attention, so no other layer's weights fit in its place. Use uniform, "
                "uniform_with_last, first, or a list that starts with 0"
            )
        return picked

    def _check_width(self, width: int | None) -> None:
        """A narrower student has whole heads of the source's size, and fewer of them."""
        if width is None or self.width is None or not self.num_heads:
            return
        head = self.width // self.num_heads
        if not 0 < width < self.width or width % head:
            fitting = ", ".join(str(head * number) for number in range(self.num_heads - 1, 0, -1)) or "none"
            raise UserError(
                f"width is {width}, but the source is {self.width} wide, in heads of {head}: give a multiple of {head} "
                f"below {self.width} ({fitting}), or leave width out"
            )


def with_prompts(config: DistillConfig, trained: Mapping[str, Any] = MappingProxyType({})) -> DistillConfig:
    """The config with the prompts it leaves open: those of the config of a `trained` model, else the source's own."""
    left_open = [name for name in ("query_prompt", "passage_prompt") if getattr(config, name) is None]
    chosen = {name: trained[name] for name in left_open if trained.get(name) is not None}
    if len(chosen) < len(left_open):
        own = own_prompts(find(config.source_model))
        chosen = {"query_prompt": own.query, "passage_prompt": own.passage} | chosen
    return config.model_copy(update={name: chosen[name] for name in left_open})


def pick_layers(num_layers: int, num_picked: int, how: LayerPick | Sequence[int]) -> list[int]:
    """Which layers of the source become the student's, ascending, counted from 0.

    uniform: every ceil(num_layers / num_picked)-th from 0: 0, 4, 8, 12, 16, 20 of 22; 0, 2, 4 of 6.
    uniform_with_last: evenly spaced from the first to the last, each rounded to the nearest layer and a half to the
    even one, as `round` does: 0, 4, 8, 13, 17, 21 of 22; 0, 2 (from 2.5), 5 of 6.
    first, last: the first or the last num_picked. A list: those layers, checked.
    """
    if not 1 <= num_picked <= num_layers:
        raise UserError(f"num_layers is {num_picked}, but the source has {num_layers} layers: pick 1 to {num_layers}")
    if how == "uniform":
        return _uniform(num_layers, num_picked)
    if how == "uniform_with_last":
        if num_picked < 2:
            raise UserError("uniform_with_last picks the first and the last layer, so num_layers must be at least 2")
        return [round(index * (num_layers - 1) / (num_picked - 1)) for index in range(num_picked)]
    if how == "first":
        return list(range(num_picked))
    if how == "last":
        return list(range(num_layers - num_picked, num_layers))
    if isinstance(how, str):
        raise UserError(f"layers is {how!r}, expected uniform, uniform_with_last, first, last or a list of numbers")
    return _checked(list(how), num_layers, num_picked)


def _uniform(num_layers: int, num_picked: int) -> list[int]:
    step = -(-num_layers // num_picked)
    picked = list(range(0, num_layers, step))
    if len(picked) < num_picked:
        raise UserError(
            f"uniform cannot pick {num_picked} of {num_layers} layers: steps of {step} reach only {len(picked)}. "
            f"Ask for {len(picked)}, or use uniform_with_last, or list the layers"
        )
    return picked


def _checked(layers: list[int], num_layers: int, num_picked: int) -> list[int]:
    is_ascending = all(left < right for left, right in pairwise(layers))
    if len(layers) != num_picked or not is_ascending or layers[0] < 0 or layers[-1] >= num_layers:
        raise UserError(
            f"layers is {layers}, expected {num_picked} different layers in ascending order, each from 0 to "
            f"{num_layers - 1}"
        )
    return layers
