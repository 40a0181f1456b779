"""Which parameters decay, and the learning rate of a batch."""

import pytest
import torch
from torch import nn

from nlnet.models.non_local import NonLocalBlock
from nlnet.models.resnet import Stage, Stem, VideoResNet
from nlnet.optim.groups import parameter_groups, sgd


@pytest.fixture
def model() -> VideoResNet:
    stages = {"res2": Stage(channels=8, blocks=1, spatial_stride=1), "res3": Stage(channels=16, blocks=2)}
    return VideoResNet(
        stages, num_classes=3, stem=Stem(channels=4), placement={11: {"res3": [1]}}, non_local=NonLocalBlock
    )


def names(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)] for parameter in parameters}


def test_batch_norm_alone_does_not_decay(model: VideoResNet) -> None:
    decay, no_decay = parameter_groups(model, weight_decay=0.1)
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.1, 0.0)
    of_norms = {name for name, _ in model.named_parameters() if name.split(".")[-2] in ("bn",) or "_bn." in name}
    assert names(model, no_decay["params"]) == of_norms
    assert {"stem.bn.bias", "res2.0.branch1_bn.weight", "res3.nl1.bn.weight"} <= of_norms
    assert {"head.bias", "res3.nl1.g.bias", "res2.0.a.weight"} <= names(model, decay["params"])


def test_batch_norm_decays_where_asked(model: VideoResNet) -> None:
    """MMAction2's rule: one number for all parameters."""
    of_all, of_norms = sgd(model, batch_size=64, lr=0.1, weight_decay=0.2, norm_weight_decay=0.1).param_groups
    assert (of_all["weight_decay"], of_norms["weight_decay"]) == (0.2, 0.1)


def test_every_parameter_is_in_one_group(model: VideoResNet) -> None:
    grouped = [id(p) for group in parameter_groups(model, weight_decay=0.1) for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}


def test_frozen_parameters_are_in_no_group(model: VideoResNet) -> None:
    model.freeze(["stem", "res2"])
    optimiser = sgd(model, batch_size=8, lr=0.1)
    of_optimiser = set().union(*(names(model, group["params"]) for group in optimiser.param_groups))
    assert of_optimiser == {name for name, _ in model.named_parameters() if name.startswith(("res3", "head"))}


def test_a_model_without_batch_norm_and_one_that_is_all_frozen_but_the_head(model: VideoResNet) -> None:
    assert parameter_groups(nn.Linear(2, 2), weight_decay=0.1)[1]["params"] == []
    model.freeze(["stem", "res2", "res3"])
    assert len(sgd(model, batch_size=8, lr=0.1).param_groups) == 2


@pytest.mark.parametrize(
    ("batch_size", "reference", "expected"),
    [(64, 64, 0.01), (32, 64, 0.005), (128, 64, 0.02), (8, 64, 0.00125), (10, 8, 0.0125), (7, None, 0.01)],
)
def test_learning_rate_is_linear_in_the_batch(
    model: VideoResNet, batch_size: int, reference: int | None, expected: float
) -> None:
    optimiser = sgd(model, batch_size=batch_size, lr=0.01, reference_batch=reference)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([expected, expected])


def test_steps_are_nesterov_with_decay_off_for_batch_norm() -> None:
    """Three steps of each parameter against the update written out."""
    lr, momentum, decay = 0.1, 0.9, 0.01
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    optimiser = sgd(model, batch_size=4, lr=lr, reference_batch=4, weight_decay=decay)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in expected.items()}
    for _ in range(3):
        optimiser.zero_grad()
        (model(torch.randn(5, 3, dtype=torch.float64)) ** 3).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad + (0.0 if name.startswith("1.") else decay) * expected[name]
            velocity[name] = momentum * velocity[name] + gradient
            expected[name] = expected[name] - lr * (gradient + momentum * velocity[name])
        optimiser.step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), expected[name])
