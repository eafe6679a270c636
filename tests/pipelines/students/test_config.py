"""What an objective is told wrong is refused with one error that says what is expected."""

import pytest
from pydantic import ValidationError

from pipelines.students.training_config import ObjectiveConfig

WRONG = {
    "no term": ({"margin_mse": 0}, "margin_mse, info_nce, vectors, kl, pointwise, spread_out are all 0, expected at"),
    "a scale of 0": ({"margin_scale": 0}, "expected a number above 0, or 'fitted'"),
    "a word for a scale": ({"pointwise_scale": "fit"}, "expected a number above 0, or 'fitted'"),
    "a scale without end": ({"margin_scale": float("inf")}, "expected a number above 0, or 'fitted'"),
    "an offset that is none": ({"pointwise_offset": float("nan")}, "expected a number, or 'fitted'"),
    "a flag for an offset": ({"pointwise_offset": True}, "expected a number, or 'fitted'"),
    "no temperature": ({"kl_teacher_temperature": 0}, "greater than 0"),
    "a target that no teacher has": ({"kl_target": "margin"}, "'relevance' or 'score'"),
    "a projection to axes": ({"vectors_projection": True, "vectors_axes": "principal"}, "expected at most one"),
    "a margin of no share": ({"info_nce_false_negative_margin": 0.1}, "without info_nce_false_negative_share nothing"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_objective_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message) as refused:
        ObjectiveConfig(**fields)

    assert refused.value.error_count() == 1


def test_scales_and_offsets_are_numbers_or_fitted():
    config = ObjectiveConfig(margin_scale=20, pointwise_scale="fitted", pointwise_offset=-0.5)

    assert (config.margin_scale, config.pointwise_scale, config.pointwise_offset) == (20.0, "fitted", -0.5)
