"""Called without padding, an encoder gives what it gives padded: embeddings and gradients, in every family."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pipelines.unpadded import layout
from pipelines.unpadded.forward import can_unpad, compile_layers, embed, layers_of
from tests.tiny import tiny_bi_encoder

of_torch_itself = pytest.mark.filterwarnings("ignore")  # what torch warns of as its compiler loads and reads a layer
LENGTHS = np.array([70, 50, 44, 43, 18, 16, 9, 9, 3, 1])  # ModernBERT's tiny window is 8 tokens to each side


def model_of(folder, family):
    model = SentenceTransformer(tiny_bi_encoder(folder, family), device="cpu")
    return model.to(torch.float64).eval()


def token_ids(lengths, vocabulary):
    return np.random.default_rng(0).integers(10, vocabulary, int(lengths.sum()))


def padded(model, ids, lengths):
    """The model's own forward of the same texts."""
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    pad = int(model.tokenizer.pad_token_id)
    input_ids = np.array([[*row, *[pad] * (lengths[0] - len(row))] for row in rows])
    mask = np.arange(lengths[0]) < lengths[:, None]
    features = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    return model(features)["sentence_embedding"]


def gradients_of(model, embeddings):
    model.zero_grad()
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal(embeddings.shape))
    (embeddings * weights).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
@pytest.mark.parametrize(("longest_in_a_group", "longest_kept"), [(512, 256), (30, 256), (512, 16)])
def test_embeddings_and_gradients_are_the_padded_forward_s(
    family, longest_in_a_group, longest_kept, tmp_path, monkeypatch
):
    """In float64: all that differs is the order of sums. With 30, longer texts are attended to one by one; with 16,
    the weights of those that see more tokens are made again for the gradients."""
    monkeypatch.setattr("pipelines.unpadded.attention.LONGEST_KEPT", longest_kept)
    monkeypatch.setattr(layout, "LONGEST_IN_A_GROUP", longest_in_a_group)
    monkeypatch.setattr("pipelines.unpadded.attention.LONGEST_IN_A_GROUP", longest_in_a_group)
    model = model_of(tmp_path, family)
    ids = token_ids(LENGTHS, model.transformers_model.config.vocab_size)

    ours, theirs = embed(model, ids, LENGTHS), padded(model, ids, LENGTHS)

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    expected = gradients_of(model, theirs)
    got = gradients_of(model, embed(model, ids, LENGTHS))
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-9, atol=1e-9)


def test_a_model_called_so_is_called_padded_as_before(tmp_path):
    model = model_of(tmp_path, "bert")
    ids = token_ids(LENGTHS, model.transformers_model.config.vocab_size)
    before = padded(model, ids, LENGTHS)

    embed(model, ids, LENGTHS)

    assert torch.equal(padded(model, ids, LENGTHS), before)


def test_bf16_is_as_near_as_the_padded_forward_in_bf16(tmp_path):
    model = model_of(tmp_path, "bert").float()
    ids = token_ids(LENGTHS, model.transformers_model.config.vocab_size)
    exact = padded(model, ids, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = embed(model, ids, LENGTHS), padded(model, ids, LENGTHS)

    assert (ours - exact).norm() < 1.5 * (theirs - exact).norm()


def test_what_cannot_be_called_so_is_known(tmp_path):
    assert can_unpad(model_of(tmp_path / "bert", "bert"))
    assert not can_unpad(model_of(tmp_path / "mpnet", "mpnet"))
    pooled_by_first_token = model_of(tmp_path / "cls", "bert")
    pooled_by_first_token[1].pooling_mode = "cls"
    assert not can_unpad(pooled_by_first_token)


def test_texts_that_do_not_stand_longest_first_are_refused():
    with pytest.raises(ValueError, match=r"lengths are \[3, 5\], expected one or more above 0, the largest first"):
        layout.Layout(np.array([3, 5]), torch.device("cpu"))


@of_torch_itself
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_every_layer_is_compiled_and_still_saved_under_its_own_name(family, tmp_path):
    model = model_of(tmp_path, family)
    names = set(model.state_dict())

    compile_layers(model.transformers_model)

    layers = layers_of(model.transformers_model)
    assert len(layers) == model.transformers_model.config.num_hidden_layers
    assert all(layer._compiled_call_impl is not None for layer in layers)
    assert set(model.state_dict()) == names


@of_torch_itself
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_compiled_layers_give_what_the_layers_give(family, tmp_path):
    """By torch's compiler for CPUs, which needs a C++ compiler; here no CPU uses it."""
    model = model_of(tmp_path, family)
    ids = token_ids(LENGTHS, model.transformers_model.config.vocab_size)
    expected = embed(model, ids, LENGTHS)
    gradients = gradients_of(model, embed(model, ids, LENGTHS))

    compile_layers(model.transformers_model)

    torch.testing.assert_close(embed(model, ids, LENGTHS), expected, rtol=0, atol=1e-12)
    for name, got in gradients_of(model, embed(model, ids, LENGTHS)).items():
        torch.testing.assert_close(got, gradients[name], rtol=0, atol=1e-12)
