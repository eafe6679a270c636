"""Which optimizer moves what, and that both go on from a checkpoint."""

import torch
from torch import nn

from pipelines.students.config import TrainingConfig
from pipelines.students.training.optimizer import Optimizer


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 4), nn.LayerNorm(4))


def trained(net, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        optimizer.backward(net(torch.arange(10)).sin().square().sum())
        optimizer.update(step, 1e-2)


def orthogonalised(gradient):
    """What five rounds of Muon's quintic make of the singular values, in float64 and without products."""
    left, values, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


def test_muon_moves_matrices_by_orthogonal_steps_and_adamw_all_else():
    net, plain, asked = model(), model(), model()
    asked(torch.arange(10)).sin().square().sum().backward()
    before, gradient = asked[1].weight.detach(), asked[1].weight.grad
    for one, name in ((net, "muon"), (plain, "adamw")):
        trained(one, Optimizer(one, TrainingConfig(optimizer=name), torch.device("cpu"), is_fp16=False), [0])

    for name, weight in net.named_parameters():
        assert torch.equal(weight, plain.get_parameter(name)) == (name != "1.weight")
    moved = (before * (1 - 1e-2 * 0.01) - net[1].weight.detach()).double() / (1e-2 * 0.2 * 6**0.5)
    torch.testing.assert_close(moved, orthogonalised(gradient), rtol=0, atol=0.03)  # Muon's products are bf16


def test_muon_goes_on_from_a_checkpoint_to_identical_weights():
    config, device = TrainingConfig(optimizer="muon"), torch.device("cpu")
    undisturbed, killed = model(), model()
    trained(undisturbed, Optimizer(undisturbed, config, device, is_fp16=False), range(4))
    begun = Optimizer(killed, config, device, is_fp16=False)
    trained(killed, begun, range(2))
    resumed, state = model(), begun.state()
    resumed.load_state_dict(killed.state_dict())
    optimizer = Optimizer(resumed, config, device, is_fp16=False)
    optimizer.load(state)
    trained(resumed, optimizer, range(2, 4))

    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), undisturbed.parameters(), strict=True))
