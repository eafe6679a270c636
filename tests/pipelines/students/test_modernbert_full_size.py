"""The guide's student at full size: 6 of ModernBERT-base's 22 layers, with random weights, since no hub is at hand."""

import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student
from pipelines.students.objective.margin_mse import margin_mse
from tests.tiny import tiny_tokenizer

DIMENSIONS = [768, 512, 256, 128, 64]
MAX_TOKENS = 8192
PICKED = [0, 4, 8, 12, 16, 20]


def modernbert_base(folder) -> str:
    """answerdotai/ModernBERT-base's config.json, with the sizes that matter written out; a tokenizer of known words."""
    config = ModernBertConfig(
        vocab_size=50368,
        hidden_size=768,
        intermediate_size=1152,
        num_hidden_layers=22,
        num_attention_heads=12,
        global_attn_every_n_layers=3,
        local_attention=128,
        max_position_embeddings=MAX_TOKENS,
        global_rope_theta=160000.0,
        local_rope_theta=10000.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ModernBertModel(config).save_pretrained(folder)
    tiny_tokenizer("modernbert").save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 4.5 minutes and 6 GB on two busy cores
def test_six_of_22_layers_load_strictly_run_as_by_hand_and_train_at_8192_tokens(tmp_path):
    source = modernbert_base(tmp_path)
    student = initialise_student(
        DistillConfig(source_model=source, num_layers=6, dimensions=DIMENSIONS, max_tokens=MAX_TOKENS)
    )

    assert student[0].model.config.distilled_from_layers == PICKED
    assert round(sum(parameter.numel() for parameter in student.parameters()) / 1e6, 1) == 68.8

    features = dict(student.tokenizer("why is the cold moon silver " * 40, return_tensors="pt"))
    with torch.no_grad():
        expected = six_layers_by_hand(source, features)
        assert (student[0].model(**features).last_hidden_state - expected).abs().max() == 0

    query, positive, negative = (
        dict(student.tokenizer(text, truncation=True, return_tensors="pt"))
        for text in ["why is the moon cold", "the moon is cold " * 3000, "a red fish"]
    )
    assert positive["input_ids"].shape == (1, MAX_TOKENS)
    before = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    training_step(student, [query, positive, negative])
    moved = [name for name, weight in student.named_parameters() if not torch.equal(weight, before[name])]
    assert moved == list(before)
    assert all(weight.isfinite().all() for weight in student.parameters())


def six_layers_by_hand(source: str, features: dict[str, torch.Tensor]) -> torch.Tensor:
    encoder = ModernBertModel.from_pretrained(source).eval()
    encoder.layers = torch.nn.ModuleList([encoder.layers[layer] for layer in PICKED])
    return encoder(**features).last_hidden_state


def training_step(student, texts: list[dict[str, torch.Tensor]]) -> None:
    """Forward text by text, MarginMSE at every dimension, backward, AdamW."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-5)
    embeddings = torch.cat([student(dict(features))["sentence_embedding"] for features in texts])
    rows = (torch.tensor([row]) for row in range(3))
    loss = margin_mse(embeddings, *rows, torch.tensor([4.0]), dimensions=DIMENSIONS, scale=20.0).sum()
    loss.backward()
    optimizer.step()
