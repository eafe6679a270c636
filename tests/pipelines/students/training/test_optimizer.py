"""Which optimizer moves what, and that both go on from a checkpoint."""

import torch
from torch import nn

from pipelines.students.training.optimizer import Optimizer
from pipelines.students.training_config import TrainingConfig


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 4), nn.LayerNorm(4))


def trained(net, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        optimizer.backward(net(torch.arange(10)).sin().square().sum())
        optimizer.update(1e-2)


def test_muon_moves_matrices_as_torch_s_own_and_adamw_all_else():
    net, plain, alone = model(), model(), model()
    for one, name in ((net, "muon"), (plain, "adamw")):
        trained(one, Optimizer(one, TrainingConfig(optimizer=name), torch.device("cpu"), is_fp16=False), [0])
    alone(torch.arange(10)).sin().square().sum().backward()
    nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
    torch.optim.Muon([alone[1].weight], lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw").step()

    assert torch.equal(net[1].weight, alone[1].weight)
    for name, weight in net.named_parameters():
        assert torch.equal(weight, plain.get_parameter(name)) == (name != "1.weight")


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
