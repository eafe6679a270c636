"""The student as one rank trains it: texts of the token cache in, embeddings out, and their gradients back.

A step's texts come as sub-forwards. Their graphs are kept until the gradients are known, or made anew for the backward
pass (`recompute_embeddings`). Where a text's gradient asks for no other text (`vectors` alone) and the token table is
frozen, each is done with before the next begins (`embed_in_turn`).
Ranks exchange gradients once a step, in the backward of the sub-forward that comes last.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.students.data.plan import Ints, padded_tokens, share_texts
from pipelines.students.data.token_cache import Array, TokenCache
from pipelines.students.training.lookups import SharedLookups
from pipelines.students.training_config import TrainingConfig
from pipelines.unpadded.forward import can_unpad, compile_layers, embed

TOKENS_PER_FORWARD = {"cpu": 1_024, "cuda": 32_768}  # a CPU's caches hold little; a GPU wants large matrices
UNPADDED_TOKENS_PER_FORWARD = TOKENS_PER_FORWARD | {"cpu": 4_096}  # no padding to save; weights are cast less often


class _Embedder(nn.Module):
    """The student with a batch in and a tensor out, as DistributedDataParallel wants it."""

    def __init__(self, student: SentenceTransformer, is_unpadded: bool) -> None:
        super().__init__()
        self.student, self.is_unpadded = student, is_unpadded

    def forward(self, token_ids: Array, lengths_or_mask: Array) -> Tensor:
        """Of texts laid end to end with their lengths, or of padded rows with their mask."""
        if self.is_unpadded:
            return embed(self.student, token_ids, lengths_or_mask)
        device = self.student.device
        features = self.student(
            {
                "input_ids": torch.from_numpy(token_ids).to(device),
                "attention_mask": torch.from_numpy(lengths_or_mask).to(device),
            }
        )
        embeddings: Tensor = features["sentence_embedding"]
        return embeddings


class RankEncoder:
    """The student on this rank's device, beside its copies on the other ranks of the default process group."""

    def __init__(
        self, student: SentenceTransformer, cache: TokenCache, config: TrainingConfig, device: torch.device
    ) -> None:
        self._cache, self._config, self.device = cache, config, device
        self.rank, self.num_ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.student = student.to(device).train(config.dropout > 0)
        assert student.transformers_model is not None, "a student is a transformer"
        table = student.transformers_model.get_input_embeddings()
        assert isinstance(table, nn.Embedding), "a student's tokens are looked up"
        table.requires_grad_(not config.freeze_embeddings)
        self._lookups = SharedLookups(table)
        self.dtype = _autocast_dtype(config.precision, device)
        is_unpadded = config.unpadded and can_unpad(student) and not config.dropout
        if is_unpadded and config.compiled and device.type == "cuda":
            compile_layers(student.transformers_model)
        self.module = _Embedder(self.student, is_unpadded)
        self._parallel = (
            DistributedDataParallel(self.module, forward_sync_buffers=False) if self.num_ranks > 1 else None
        )
        self._pad_token_id = int(student.tokenizer.pad_token_id)
        is_large = is_unpadded and not config.recompute_embeddings  # which is asked for to save memory
        usual = UNPADDED_TOKENS_PER_FORWARD if is_large else TOKENS_PER_FORWARD
        self.tokens_per_forward = config.tokens_per_forward or usual[device.type]

    def warm_up(self) -> None:
        """One backward of nothing, in fresh and resumed runs alike.

        DistributedDataParallel rebuilds its buckets after its first backward and from then on reduces in another
        order: without this, from three ranks on, a resumed step would differ in its last bits.
        """
        if self._parallel is not None:
            nothing = self._embed(self._parallel, np.zeros(1, dtype=np.int64), step=0, part=0).sum() * 0
            nothing.backward()  # type: ignore[no-untyped-call]
            self._lookups.begin()
            self.module.zero_grad(set_to_none=True)

    def embed(self, parts: Sequence[Ints], step: int) -> list[Tensor]:
        """The embeddings of each sub-forward's texts, float32 or better, ready for `backward` of the same ones."""
        if self._config.recompute_embeddings:
            with torch.no_grad():
                return [self._embed(self.module, texts, step, part) for part, texts in enumerate(parts)]
        last = len(parts) - 1
        return [self._embed_with_graph(texts, step, part, is_last=part == last) for part, texts in enumerate(parts)]

    def backward(self, parts: Sequence[Ints], step: int, embeddings: list[Tensor], gradients: list[Tensor]) -> None:
        """Add to the parameters' gradients what follows from those of the embeddings, averaged over ranks."""
        if not self._config.recompute_embeddings:
            torch.autograd.backward(embeddings, gradients)
            self._lookups.begin()
            return
        for part, gradient in enumerate(gradients):
            is_last = part == len(parts) - 1
            with self._exchange_if(is_last):
                embedded = self._embed_with_graph(parts[part], step, part, is_last=is_last)
                embedded.backward(gradient)  # type: ignore[no-untyped-call]
            self._lookups.begin()

    @property
    def can_take_turns(self) -> bool:
        """Whether `embed_in_turn` is of use: the table's gradient is made once a step, or not at all."""
        return self._config.freeze_embeddings and not self._config.recompute_embeddings

    def embed_in_turn(
        self, parts: Sequence[Ints], step: int, gradient_of: Callable[[int, Tensor], Tensor]
    ) -> list[Tensor]:
        """`embed` and `backward` in the memory of one sub-forward.

        From the last one to the first: so autograd adds up the gradients of several graphs, and the sums are the same
        to the last bit.

        Args:
            gradient_of: the gradient of a sub-forward's embeddings, by its number and the embeddings.
        """
        embeddings = list[Tensor]()
        for part in reversed(range(len(parts))):
            embedded = self._embed_with_graph(parts[part], step, part, is_last=part == 0)
            embedded.backward(gradient_of(part, embedded.detach()))  # type: ignore[no-untyped-call]
            embeddings.append(embedded.detach())
        return embeddings[::-1]

    @torch.no_grad()
    def encode(self, cache: TokenCache) -> Tensor:
        """The embeddings of all texts of a cache, in their order and on every rank; without dropout, for no gradient.

        The texts are shared out over the ranks as a step's are. Returns shape (texts, width).
        """
        other = copy.copy(self)
        other._cache = cache
        longest_first = np.argsort(-cache.text_tokens.astype(np.int64), kind="stable")
        shares = share_texts(cache.text_tokens[longest_first], self.num_ranks, self.tokens_per_forward)
        parts = [longest_first[rows] for rows in shares[self.rank]]
        self.student.eval()
        embeddings = [
            other._embed(self.module, texts if len(texts) else longest_first[-1:], 0, part)
            for part, texts in enumerate(parts)
        ]
        self.student.train(self._config.dropout > 0)
        return self.gathered(len(longest_first), parts, embeddings)

    def computed_tokens(self, tokens: Ints, parts: Sequence[Ints]) -> int:
        """Tokens that sub-forwards of texts of so many tokens compute, padding included."""
        return (
            sum(int(tokens[rows].sum()) for rows in parts) if self.module.is_unpadded else padded_tokens(tokens, parts)
        )

    def gathered(self, num_texts: int, parts: Sequence[Ints], embeddings: Sequence[Tensor]) -> Tensor:
        """The embeddings of all texts, from all ranks; this rank's are those of the rows of `parts`."""
        everything_TD = embeddings[0].new_zeros((num_texts, embeddings[0].shape[1]))
        for rows, embedded in zip(parts, embeddings, strict=True):
            if len(rows):
                everything_TD[torch.as_tensor(rows, device=self.device)] = embedded.detach()
        if self.num_ranks > 1:
            dist.all_reduce(everything_TD)  # rows of other ranks are 0 here: the sum is the gathering
        return everything_TD

    def _embed_with_graph(self, texts: Ints, step: int, part: int, *, is_last: bool) -> Tensor:
        with self._exchange_if(is_last):
            return self._embed(self._parallel or self.module, texts, step, part)

    def _exchange_if(self, is_last: bool) -> AbstractContextManager[None]:
        """Ranks average their gradients in the backward of what is embedded here, if it is the step's last."""
        return nullcontext() if is_last or self._parallel is None else self._parallel.no_sync()

    def _embed(self, model: nn.Module, texts: Ints, step: int, part: int) -> Tensor:
        is_unpadded = self.module.is_unpadded
        batch = self._cache.end_to_end(texts) if is_unpadded else self._cache.padded(texts, self._pad_token_id)
        if self._config.dropout:
            seeds = np.random.SeedSequence([self._config.seed, step, self.rank, part])
            torch.manual_seed(int(seeds.generate_state(1)[0]))
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            embedded: Tensor = model(*batch)
        return embedded.to(torch.promote_types(embedded.dtype, torch.float32))


def _autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """None is float32 throughout."""
    if precision == "auto":
        precision = "float32" if device.type == "cpu" else "bf16"
    return {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
