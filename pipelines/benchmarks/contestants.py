"""Who trains in `bench distill`: our loop, a bare loop, and sentence-transformers' trainer; each a few steps a turn.

All train the same texts towards the same margins by MarginMSE in every Matryoshka dimension, with AdamW, clipping and
a learning rate of 1e-5. The bare loop knows no objective, no ranks and no metrics: it is what the encoder costs.
"""

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer.losses import MarginMSELoss, MatryoshkaLoss
from torch import Tensor, nn
from torch.nn import functional

from pipelines.benchmarks.trainings import Timed, by_length, train_ours, train_theirs
from pipelines.benchmarks.workload import Precision, Workload
from pipelines.students.data.plan import Schedule, padded_tokens, share_texts
from pipelines.students.training.encoder import TOKENS_PER_FORWARD
from pipelines.students.training_config import TrainingConfig

LEARNING_RATE = 1e-5
WARM_UP = 1  # steps of each turn that no clock counts


class Turn(NamedTuple):
    """What some steps did."""

    seconds: float
    triplets: int
    queries: float
    tokens: int  # without padding; a text counts as often as it is embedded
    padded_tokens: int
    loss: float  # of the last step


class Terms(NamedTuple):
    """What is equal for all."""

    triplets_per_step: int
    steps: int
    precision: Precision
    threads: int
    dimensions: tuple[int, ...]
    device: torch.device


def our_loop(model: SentenceTransformer, workload: Workload, terms: Terms, **engine: Any) -> Turn:
    """`distill`'s loop without Ray; `engine`: fields of its config that differ."""
    config, timed = TrainingConfig.model_validate(_config(terms) | engine), Timed()
    train_ours(copy.deepcopy(model), workload.cache(), config, terms.device, [timed])
    counted = timed.lines[WARM_UP:]
    tokens = sum(line["tokens"] for line in counted)
    padded = sum(round(line["tokens"] / (1 - line["padding_share"])) for line in counted)
    triplets = sum(line["triplets"] for line in counted)
    seconds = timed.ends[-1] - timed.ends[WARM_UP - 1]
    return Turn(seconds, triplets, triplets / workload.negatives, tokens, padded, counted[-1]["loss"])


def bare_loop(model: SentenceTransformer, workload: Workload, terms: Terms) -> Turn:
    """The encoder on the batches of our loop, padded, to a loss of one line."""
    model, cache = copy.deepcopy(model).to(terms.device).eval(), workload.cache()
    config = TrainingConfig.model_validate(_config(terms))
    schedule, encoder = Schedule(cache, config), model.transformers_model
    assert encoder is not None, "load_model gives a transformer"
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=LEARNING_RATE, fused=True)
    tokens = padded = triplets = 0
    limit = TOKENS_PER_FORWARD[terms.device.type]
    with _threads(terms.threads):
        for step in range(WARM_UP + terms.steps):
            if step == WARM_UP:
                started = time.perf_counter()
            batch = schedule.batch(step)
            lengths = cache.text_tokens[batch.texts]
            (parts,) = share_texts(lengths, 1, limit)
            with torch.autocast(terms.device.type, torch.bfloat16, enabled=terms.precision == "bf16"):
                embedded = [_mean(encoder, *cache.padded(batch.texts[rows], 0)) for rows in parts]
            loss = torch.cat(embedded).float().square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step >= WARM_UP:
                tokens, padded = tokens + int(lengths.sum()), padded + padded_tokens(lengths, parts)
                triplets += len(batch.triplets)
        last = loss.item()  # waits for the device
        seconds = time.perf_counter() - started
    return Turn(seconds, triplets, triplets / workload.negatives, tokens, padded, last)


def field_trainer(model: SentenceTransformer, workload: Workload, terms: Terms, *, flat: bool, grouped: bool) -> Turn:
    """SentenceTransformerTrainer on triplets, or on tuples of all a query's negatives; by length or not."""
    from datasets import Dataset  # type: ignore[import-untyped]  # the trainer's own requirement, which our loop does without

    model = copy.deepcopy(model).to(terms.device)
    loss = _Counting(MatryoshkaLoss(model, MarginMSELoss(model), list(terms.dimensions)), WARM_UP)
    rows = terms.triplets_per_step if flat else max(1, terms.triplets_per_step // workload.negatives)
    dataset = Dataset.from_dict(workload.rows(flat=flat))
    with _threads(terms.threads):
        train_theirs(
            model,
            dataset,
            loss,
            max_steps=WARM_UP + terms.steps,
            per_device_train_batch_size=rows,
            learning_rate=LEARNING_RATE,
            bf16=terms.precision == "bf16",
            use_cpu=terms.device.type == "cpu",
            batch_sampler=by_length(_lengths(workload, flat)) if grouped else BatchSamplers.BATCH_SAMPLER,
        )
        seconds = time.perf_counter() - loss.started
    triplets = terms.steps * rows * (1 if flat else workload.negatives)
    return Turn(seconds, triplets, triplets / workload.negatives, loss.tokens, loss.padded_tokens, loss.last)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many CPU threads. Deterministic kernels, which cost time on a GPU, are asked of our loop alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Counting(nn.Module):
    """A loss that counts the tokens it is given, from the first step after the warm-up on."""

    def __init__(self, loss: nn.Module, warm_up: int) -> None:
        super().__init__()
        self.loss, self._left = loss, warm_up
        self.started, self.tokens, self.padded_tokens, self.last = 0.0, 0, 0, float("nan")

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        features = list(sentence_features)
        if self._left == 0:
            self.started = time.perf_counter()
        if self._left <= 0:
            self.tokens += sum(int(column["attention_mask"].sum()) for column in features)
            self.padded_tokens += sum(column["attention_mask"].numel() for column in features)
        self._left -= 1
        value: Tensor = self.loss(features, labels)
        self.last = value.item()
        return value


def _lengths(workload: Workload, flat: bool) -> list[int]:
    """Of each row the words of its longest text."""
    columns = [column for name, column in workload.rows(flat=flat).items() if name != "label"]
    return [max(len(text.split()) for text in texts) for texts in zip(*columns, strict=True)]


def _config(terms: Terms) -> dict[str, Any]:
    return {
        "dimensions": terms.dimensions,
        "epochs": 1_000,  # max_steps ends it
        "max_steps": WARM_UP + terms.steps,
        "triplets_per_step": terms.triplets_per_step,
        "learning_rate": LEARNING_RATE,
        "warmup_share": 0.0,
        "precision": terms.precision,
        "threads_per_worker": terms.threads,
        "checkpoint_every_steps": 1_000_000,
    }


def _mean(encoder: nn.Module, input_ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> Tensor:
    device = next(encoder.parameters()).device
    ids, is_token = torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device)
    states = encoder(input_ids=ids, attention_mask=is_token).last_hidden_state
    return functional.normalize((states * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True), dim=-1)
