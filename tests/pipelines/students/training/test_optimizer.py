"""Which optimizer moves what, and that both go on from a checkpoint."""

import pytest
import torch
from torch import nn

from pipelines.students.training.optimizer import Float32Muon, Optimizer
from pipelines.students.training_config import TrainingConfig


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 4), nn.LayerNorm(4))


def trained(net, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        optimizer.backward(net(torch.arange(10)).sin().square().sum())
        optimizer.update(1e-2)


@pytest.mark.parametrize(("dtype", "muon"), [(torch.bfloat16, torch.optim.Muon), (None, Float32Muon)])
def test_muon_moves_matrices_and_adamw_all_else(dtype, muon):
    net, plain, alone = model(), model(), model()
    for one, name in ((net, "muon"), (plain, "adamw")):
        trained(one, Optimizer(one, TrainingConfig(optimizer=name), torch.device("cpu"), dtype), [0])
    alone(torch.arange(10)).sin().square().sum().backward()
    nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
    muon([alone[1].weight], lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw").step()

    assert torch.equal(net[1].weight, alone[1].weight)
    for name, weight in net.named_parameters():
        assert torch.equal(weight, plain.get_parameter(name)) == (name != "1.weight")


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_in_float32_muon_is_torch_s_own_but_for_bf16_s_rounding(shape):
    ours, theirs = (nn.Parameter(torch.full(shape, 0.5)) for _ in range(2))
    given = {"lr": 0.03, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = Float32Muon([ours], **given), torch.optim.Muon([theirs], **given)
    gradients = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    for gradient in gradients:
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()

    assert (ours - theirs).norm() < 0.02 * (theirs - 0.5).norm()
    assert 1e-6 * (theirs - 0.5).norm() < (ours - theirs).norm()  # no bf16 in it


def test_muon_goes_on_from_a_checkpoint_to_identical_weights():
    config, device = TrainingConfig(optimizer="muon"), torch.device("cpu")
    undisturbed, killed = model(), model()
    trained(undisturbed, Optimizer(undisturbed, config, device, None), range(4))
    begun = Optimizer(killed, config, device, None)
    trained(killed, begun, range(2))
    resumed, state = model(), begun.state()
    resumed.load_state_dict(killed.state_dict())
    optimizer = Optimizer(resumed, config, device, None)
    optimizer.load(state)
    trained(resumed, optimizer, range(2, 4))

    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), undisturbed.parameters(), strict=True))
