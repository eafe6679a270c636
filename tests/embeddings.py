"""Made-up embeddings for the losses' tests, in float64, gradients in them, and a model for the library's losses."""

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

EXACT = {"rtol": 1e-11, "atol": 1e-13}
DIMENSIONS = [32, 24, 16, 8, 1]


def embeddings(num_texts: int, width: int = 32, seed: int = 0) -> Tensor:
    """Float64, of any length: what a model without Normalize would give."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.linspace(0.1, 5, num_texts, dtype=torch.float64)[:, None]
    return (torch.randn(num_texts, width, dtype=torch.float64, generator=generator) * scales).requires_grad_()


def gradient(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of, retain_graph=True)[0]  # of one value in several tensors, one by one


class Given(SentenceTransformer):
    """A model whose forward hands back the embeddings it is given, so that the library's loss runs on ours."""

    def __init__(self, width: int) -> None:
        super().__init__(modules=[torch.nn.Identity()], device="cpu")
        self.width = width

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return self.width
