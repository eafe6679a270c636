"""The table's gradient is, to the last bit, what every sub-forward's own lookup would have added up to."""

import pytest
import torch
from torch import nn

from pipelines.students.training.lookups import SharedLookups

PARTS = [torch.tensor([[3, 1, 3, 0], [7, 3, 0, 0]]), torch.tensor([[1, 1, 9]]), torch.tensor([[3, 8, 0]])]


def gradient(table, parts, begin_each=lambda: None):
    """Of a loss over all parts, in one backward pass, or in as many as are begun."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(*part.shape, 4, generator=generator) for part in parts]
    losses = []
    for part, weight in zip(parts, weights, strict=True):
        begin_each()
        losses.append((table(part).sin() * weight).sum())
    torch.autograd.backward(losses)
    return table.weight.grad


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_one_gradient_for_all_sub_forwards_equals_their_sum(padding_idx):
    torch.manual_seed(1)
    plain = nn.Embedding(12, 4, padding_idx=padding_idx)
    shared = nn.Embedding(12, 4, padding_idx=padding_idx)
    shared.load_state_dict(plain.state_dict())
    SharedLookups(shared)

    assert torch.equal(gradient(shared, PARTS), gradient(plain, PARTS))


def test_what_was_begun_apart_has_its_own_backward_pass():
    torch.manual_seed(1)
    plain, shared = nn.Embedding(12, 4), nn.Embedding(12, 4)
    shared.load_state_dict(plain.state_dict())
    lookups = SharedLookups(shared)

    torch.testing.assert_close(gradient(shared, PARTS, lookups.begin), gradient(plain, PARTS))
    with torch.no_grad():
        assert torch.equal(shared(PARTS[0]), plain(PARTS[0]))
    assert list(shared.state_dict()) == ["weight"]
