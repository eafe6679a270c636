"""What stands on the encoder: from the vectors of a text's tokens to the embedding that is trained and published.

Another head (sparse, late interaction) is a function here; initialise.py puts it on, and every loader reads it from
the model's own modules.json.
"""

from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import nn


def mean_pooling(width: int) -> list[nn.Module]:
    """The mean of the token vectors, of unit length: one dense vector, to be compared by cosine."""
    return [Pooling(width, pooling_mode="mean"), Normalize()]
