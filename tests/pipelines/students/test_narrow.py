"""A narrower student: exact where it can be (a change of basis), the stated rule elsewhere, for every family."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from pipelines.checkpoints.load import drop_pooler
from pipelines.stage.errors import UserError
from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student
from pipelines.students.narrow import evenly_spread, narrowed, principal_directions, standing_out
from tests.tiny import Family, tiny_encoder

FAMILIES: list[Family] = ["modernbert", "bert", "mpnet", "xlm-roberta"]
TEXTS = ["the king of winter", "why " * 30 + "is the silver moon cold when the fish sleep in the river", "x"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, str]:
    root = tmp_path_factory.mktemp("sources")
    return {family: tiny_encoder(root / family, family, num_layers=5) for family in FAMILIES}


def student_of(source: str, **settings) -> SentenceTransformer:
    settings = {"layers": (0, 3, 4), "num_layers": 3, "dimensions": (16, 8), "max_tokens": 64, "width": 16} | settings
    return initialise_student(DistillConfig(source_model=source, **settings))


@pytest.mark.parametrize("family", FAMILIES)
def test_at_its_full_width_the_source_is_only_seen_in_another_basis(sources, family):
    """Norms of equal gains, as a model before its training has them: only then is nothing approximated."""
    source = drop_pooler(AutoModel.from_pretrained(sources[family]).eval())
    features = student_of(sources[family]).tokenizer(TEXTS, padding=True, return_tensors="pt")

    turned = narrowed(source, 32).eval()

    basis = principal_directions(source.get_input_embeddings().weight.detach(), 32).directions
    with torch.no_grad():
        expected = source(**features).last_hidden_state.double() @ basis
        found = turned(**features).last_hidden_state.double()
    assert (found - expected).abs().max() < 2e-4 * expected.abs().max()
    assert (found - source(**features).last_hidden_state).abs().max() > 0.1


def test_the_basis_is_the_best_one_for_the_token_table_and_takes_ones_to_ones():
    table = torch.randn(300, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 4, 12) + 1

    basis = principal_directions(table, 5)

    directions = basis.directions.numpy()
    assert directions.T @ directions == pytest.approx(np.eye(5), abs=1e-12)
    assert directions @ np.full(5, 5**-0.5) == pytest.approx(np.full(12, 12**-0.5), abs=1e-12)
    centred = table.double().numpy() - table.double().numpy().mean(axis=1, keepdims=True)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    lost = np.square(centred - centred @ directions @ directions.T).sum()
    assert lost == pytest.approx(variances[4:].sum())  # no basis of that size loses less
    assert basis.share == pytest.approx(variances[:4].sum() / variances.sum())


def test_a_coordinate_that_a_norm_makes_stand_out_is_an_axis_of_its_own():
    table = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    gains = torch.ones(64)
    gains[[5, 40]] = torch.tensor([1.6, 0.5])

    axes = standing_out(
        {"a.LayerNorm.weight": gains, "b.norm.weight": torch.full((64,), 0.7), "c.weight": table}, most=3
    )

    assert axes == [5, 40]
    assert standing_out({"a.LayerNorm.weight": gains}, most=1) == [40]  # a half stands further out than 1.6 times
    basis = principal_directions(table, 16, axes).directions
    torch.testing.assert_close(basis.T @ basis, torch.eye(16, dtype=torch.float64))
    assert basis[axes].square().sum(dim=1).tolist() == pytest.approx([1, 1])  # nothing of them is lost
    assert basis[axes, [1, 2]].tolist() == pytest.approx([0.9, 0.9], abs=0.1)  # and each has one place in the student


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrower_student_is_whole_saves_and_loads_and_is_the_same_each_time(sources, family, tmp_path):
    student = student_of(sources[family])
    student.save_pretrained(str(tmp_path / "one"))
    student_of(sources[family]).save_pretrained(str(tmp_path / "two"))

    reloaded = SentenceTransformer(str(tmp_path / "one"), device="cpu")

    config = reloaded[0].model.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 1, 32)
    assert (config.distilled_from_layers, config.narrowed_from_width) == ([0, 3, 4], 32)
    again = initialise_student(DistillConfig(source_model=str(tmp_path / "one"), num_layers=1, dimensions=(16,)))
    assert not hasattr(again[0].model.config, "narrowed_from_width")
    assert reloaded.encode(TEXTS).shape == (3, 16)
    assert (reloaded.encode(TEXTS) == student.encode(TEXTS)).all()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    assert all(weight.isfinite().all() for weight in load_file(tmp_path / "one" / "model.safetensors").values())
    if family == "modernbert":
        expected = ["full_attention", "full_attention", "sliding_attention"]
        assert config.layer_types == expected == [layer.attention_type for layer in reloaded[0].model.layers]
    reloaded(dict(reloaded.tokenizer(TEXTS, padding=True, return_tensors="pt")))["sentence_embedding"].sum().backward()
    assert [name for name, parameter in reloaded.named_parameters() if parameter.grad is None] == []


def test_a_weight_is_projected_on_the_side_of_the_stream_and_cut_on_the_other(sources):
    source = AutoModel.from_pretrained(sources["modernbert"])
    before, after = source.state_dict(), narrowed(source, 16).state_dict()

    basis = principal_directions(source.get_input_embeddings().weight.detach(), 16)
    heads, neurons = torch.arange(16, 32), torch.arange(64).view(32, 2)[:, 1]  # head 1 of 2; every second neuron
    qkv = torch.cat([before["layers.2.attn.Wqkv.weight"][heads + 32 * part] for part in range(3)]).double()
    torch.testing.assert_close(after["layers.2.attn.Wqkv.weight"], (qkv @ basis.directions).float())
    out = basis.directions.T @ before["layers.2.mlp.Wo.weight"].double()[:, neurons]
    torch.testing.assert_close(after["layers.2.mlp.Wo.weight"], out.float())
    gain = (basis.share * 32 / 16) ** 0.5  # the source's gains are all 1
    torch.testing.assert_close(after["final_norm.weight"], torch.full((16,), gain))


def test_parts_that_stay_are_spread_evenly():
    assert evenly_spread(6, 3).tolist() == [1, 3, 5]
    assert evenly_spread(12, 9).tolist() == [0, 2, 3, 4, 6, 7, 8, 10, 11]
    assert evenly_spread(4, 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 24}, r"in heads of 16: give a multiple of 16 below 32 \(16\)"),
        ({"width": 32}, "width is 32, but the source is 32 wide"),
        ({"width": 48}, "width is 48, but the source is 32 wide"),
        ({"dimensions": (32, 8)}, "the student is 16 wide"),
    ],
)
def test_a_width_that_cannot_be_made_is_refused(sources, settings, message):
    with pytest.raises(UserError, match=message):
        student_of(sources["bert"], **settings)
