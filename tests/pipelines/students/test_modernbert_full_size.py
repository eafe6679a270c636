"""The guide's student at full size, 6 of ModernBERT-base's 22 layers, and texts of 8,192 tokens; random weights.

The figures of pipelines/students/README.md: pytest -m slow -s tests/pipelines/students/test_modernbert_full_size.py
"""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import ModernBertConfig, ModernBertModel

from pipelines.benchmarks.memory import peak_memory_mb
from pipelines.search.encoders import StudentEncoder
from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from pipelines.students.objective.margin_mse import margin_mse
from pipelines.students.training.loop import train_student
from tests.tiny import tiny_encoder, tiny_tokenizer
from tests.training_data import commit_curated, curated_row

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


def long_text(first: str, last: str = "silver") -> str:
    """Of 8,192 tokens or more, the last of which is read."""
    return f"{first} " + "the moon is cold " * 2047 + f"{last} " * 100


def trained_on_long_texts(source: str, folder: Path, **settings) -> tuple[SentenceTransformer, dict[str, int], int]:
    """A student after a training on triplets of which one passage is long; what the cache holds; the steps."""
    bounded = {"recompute_embeddings": True, "unpadded": True}
    config = DistillConfig(source_model=source, max_tokens=MAX_TOKENS, epochs=1, **bounded, **settings)
    rows = [curated_row(query, long_text(query), f"a {query} fish") for query in ("why", "snow")]
    curated = commit_curated(Tables.at(str(folder / "tables")), rows)
    student = initialise_student(config)
    cache = build_token_cache(folder / "cache", curated, student.tokenizer, config)
    summary = train_student(
        student,
        cache,
        config,
        folder=folder / "rank",
        device=torch.device("cpu"),
        resume_from=None,
        on_checkpoint=lambda step, folder: None,
        sinks=[],
    )
    return student, cache.summary | {"longest": int(cache.text_tokens.max())}, summary.steps


def test_texts_of_8192_tokens_are_cached_trained_on_and_encoded_whole(tmp_path):
    source = tiny_encoder(tmp_path / "source", "modernbert", num_layers=2)  # one layer global, one of 16 tokens
    sizes = {"num_layers": 2, "layers": "first", "dimensions": (32, 8), "triplets_per_step": 1}

    student, cache, steps = trained_on_long_texts(source, tmp_path, **sizes)

    assert (cache["longest"], cache["texts_cut"], steps) == (MAX_TOKENS, 2, 2)
    assert all(weight.isfinite().all() for weight in student.parameters())
    student.save_pretrained(str(tmp_path / "model"))
    plain = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert plain.max_seq_length == MAX_TOKENS
    texts = [long_text("a"), "a red fish", long_text("a", last="blue")]
    found = StudentEncoder(student, batch_size=3).encode(texts, "passage")
    np.testing.assert_allclose(found, plain.encode(texts, batch_size=1), atol=2e-5)  # padded, with the library's masks
    assert np.abs(found[0] - found[2]).max() > 1e-4


def in_a_process(work, *args):
    """What `work` returns, its seconds, and the most memory, in GB, that a process of its own needed for it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, args))


def _measured(work, args):
    torch.set_num_threads(2)
    started = time.perf_counter()
    found = work(*args)
    return found, time.perf_counter() - started, peak_memory_mb() / 1e3


def _train(source: str, folder: str) -> int:
    sizes = {"num_layers": 6, "dimensions": DIMENSIONS, "triplets_per_step": 1, "threads_per_worker": 2}
    return trained_on_long_texts(source, Path(folder), **sizes)[2]


def _encode(folder: str, texts: list[str], is_padded: bool) -> np.ndarray:
    student = SentenceTransformer(folder, device="cpu")
    return student.encode(texts) if is_padded else StudentEncoder(student, 32).encode(texts, "passage")


@pytest.mark.slow
@pytest.mark.timeout(3600)  # 6 minutes on two busy cores
def test_long_texts_need_bounded_memory_at_full_size(tmp_path):
    source = modernbert_base(tmp_path / "source")
    student = initialise_student(
        DistillConfig(source_model=source, num_layers=6, dimensions=DIMENSIONS, max_tokens=MAX_TOKENS)
    )
    student.save_pretrained(str(tmp_path / "student"))
    del student
    texts = [long_text("a"), "a red fish", long_text("snow"), "why"]

    loaded = in_a_process(_encode, str(tmp_path / "student"), texts[1:2], False)
    ours = in_a_process(_encode, str(tmp_path / "student"), texts, False)
    padded = in_a_process(_encode, str(tmp_path / "student"), texts, True)
    steps, seconds, peak = in_a_process(_train, source, str(tmp_path / "training"))

    print(f"encode, loaded: {loaded[2]:.2f} GB")
    for name, (_, took, most) in [("encode, unpadded", ours), ("encode, padded", padded)]:
        print(f"{name}: {2 * MAX_TOKENS / (took - loaded[1]):,.0f} tokens/s, {most:.2f} GB")
    print(f"2 steps: {seconds:.0f} s, {peak:.2f} GB")
    np.testing.assert_allclose(ours[0], padded[0], atol=1e-4)
    assert steps == 2
    assert ours[2] < padded[2]
