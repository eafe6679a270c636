"""What stands on the encoder: from the vectors of a text's tokens to the embedding that is trained and published.

Another head (sparse, late interaction) is a function here; initialise.py puts it on, and every loader reads it from
the model's own modules.json.
"""

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from torch import Tensor, nn


def mean_pooling(width: int) -> list[nn.Module]:
    """The mean of the token vectors, of unit length: one dense vector, to be compared by cosine."""
    return [Pooling(width, pooling_mode="mean"), Normalize()]


def mean_and_dense(width: int) -> list[nn.Module]:
    """A linear layer on the mean, without bias, that leaves it as it is until it is turned or trained."""
    pooling, normalize = mean_pooling(width)
    dense = Dense(width, width, bias=False, activation_function=nn.Identity(), init_weight=torch.eye(width))
    return [pooling, dense, normalize]


@torch.no_grad()
def turn(student: SentenceTransformer, rotation_DD: Tensor) -> None:
    """Turn the student's embeddings by its dense head. Cosines of whole embeddings stay, those of cut ones do not."""
    dense = student[2]
    assert isinstance(dense, Dense), "checks.py lets no other head be turned"
    dense.linear.weight.copy_(rotation_DD.to(dense.linear.weight.dtype) @ dense.linear.weight)
