"""Batch norm with fixed statistics, folded, frozen whole, and synchronised."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nlnet.errors import ConfigError
from nlnet.models import batch_norm
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.resnet import Stage, Stem, VideoResNet
from nlnet.optim.groups import sgd

Mode = Callable[[nn.Module], nn.Module]
FIXED = [batch_norm.frozen_statistics, batch_norm.folded, batch_norm.frozen]


@pytest.fixture
def model() -> VideoResNet:
    """A small network with a non-local block; nothing in its norms is 0 or 1."""
    torch.manual_seed(0)
    stages = {"res2": Stage(channels=8, blocks=1, spatial_stride=1), "res3": Stage(channels=16, blocks=2)}
    block = partial(NonLocalBlock, output=Output(scale_init=0.5), weight_std=None)
    model = VideoResNet(stages, num_classes=3, stem=Stem(channels=4), placement={11: {"res3": [1]}}, non_local=block)
    for module in norms(model):
        for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
            nn.init.uniform_(tensor, 0.2, 3.0)  # type: ignore[arg-type]
    return model


def norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def clip(number: int = 0, size: int = 2) -> Tensor:
    return 1 + torch.randn(size, 3, 4, 24, 24, generator=torch.Generator().manual_seed(number))


def statistics(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for module in norms(model) for tensor in (module.running_mean, module.running_var)]  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", [batch_norm.normal, *FIXED, batch_norm.synchronised])
def test_outputs_of_evaluation_are_those_of_the_network_before(model: VideoResNet, mode: Mode) -> None:
    expected = copy.deepcopy(model).eval()(clip())
    names = list(model.state_dict())
    changed = mode(model)
    torch.testing.assert_close(changed.eval()(clip()), expected, rtol=1e-5, atol=1e-6)
    assert list(changed.state_dict()) == names
    assert not torch.allclose(expected, torch.zeros_like(expected))


@pytest.mark.parametrize("mode", FIXED)
def test_statistics_stay_in_training(model: VideoResNet, mode: Mode) -> None:
    model.dropout.p = 0.0
    expected = copy.deepcopy(model).eval()(clip())
    changed = mode(model)
    before = statistics(changed)
    optimizer = sgd(changed, batch_size=64, lr=1e-6)
    for number in range(3):
        changed.train()
        logits = changed(clip(number))
        if number == 0:
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        logits.square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(torch.equal(new, old) for new, old in zip(statistics(changed), before, strict=True))
    alone = changed(clip(5))[:1]
    torch.testing.assert_close(alone, changed(clip(5)[:1]), rtol=1e-5, atol=1e-6)  # no clip sees another


@pytest.mark.parametrize("mode", [batch_norm.frozen_statistics, batch_norm.folded])
def test_scale_and_bias_train_without_decay(model: VideoResNet, mode: Mode) -> None:
    changed = mode(model)
    _, no_decay = sgd(changed, batch_size=64, lr=0.01).param_groups
    assert {id(p) for p in no_decay["params"]} == {id(p) for m in norms(changed) for p in (m.weight, m.bias)}
    changed.train()(clip()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in no_decay["params"])


def test_frozen_whole_trains_nothing_of_a_norm(model: VideoResNet) -> None:
    changed = batch_norm.frozen(model)
    in_norms = {id(p) for m in norms(changed) for p in m.parameters()}
    assert in_norms
    for parameter in changed.parameters():
        assert parameter.requires_grad == (id(parameter) not in in_norms)
    assert sum(len(group["params"]) for group in sgd(changed, batch_size=64, lr=0.01).param_groups) == sum(
        parameter.requires_grad for parameter in changed.parameters()
    )


def test_folded_trains_as_a_layer_that_scales_and_shifts() -> None:
    """The authors' affine layer written out, three steps of SGD in double precision; frozen statistics go elsewhere."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4).double()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 3.0)  # type: ignore[arg-type]
    layers = {
        mode.__name__: mode(nn.Sequential(copy.deepcopy(norm)))
        for mode in (batch_norm.folded, batch_norm.frozen_statistics)
    }
    deviation = (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
    scale = (norm.weight / deviation).detach().requires_grad_()
    shift = (norm.bias - norm.running_mean * norm.weight / deviation).detach().requires_grad_()
    optimizers = {name: sgd(layer, batch_size=1, lr=0.1, reference_batch=1) for name, layer in layers.items()}
    reference = torch.optim.SGD([scale, shift], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(3):
        x, target = torch.randn(8, 4).double(), torch.randn(8, 4).double()
        for name, layer in layers.items():
            optimizers[name].zero_grad()
            (layer.train()(x) - target).square().mean().backward()
            optimizers[name].step()
        reference.zero_grad()
        (x * scale + shift - target).square().mean().backward()  # type: ignore[no-untyped-call]
        reference.step()
    torch.testing.assert_close(layers["folded"](x), x * scale + shift, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(layers["frozen_statistics"](x), x * scale + shift, rtol=1e-2)


def test_a_folded_network_has_neutral_statistics_and_folds_again_to_the_same(model: VideoResNet) -> None:
    once = batch_norm.folded(model)
    weights = {name: tensor.clone() for name, tensor in once.state_dict().items()}
    for module in norms(once):
        assert torch.equal(module.running_mean, torch.zeros_like(module.weight))
        torch.testing.assert_close(module.running_var + module.eps, torch.ones_like(module.weight))
    twice = batch_norm.folded(once)
    for name, tensor in twice.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], msg=name)


@pytest.mark.parametrize("mode", FIXED)
def test_frozen_stages_stay_frozen(model: VideoResNet, mode: Mode) -> None:
    model.freeze(["stem", "res2"])
    changed = mode(model)
    assert isinstance(changed, VideoResNet)
    changed.train()
    assert not any(parameter.requires_grad for parameter in [*changed.stem.parameters(), *changed.res2.parameters()])
    assert any(parameter.requires_grad for parameter in changed.res3.parameters())


@pytest.mark.parametrize("source", [batch_norm.normal, *FIXED])
@pytest.mark.parametrize("target", [batch_norm.normal, *FIXED])
def test_checkpoints_load_from_any_into_any(model: VideoResNet, source: Mode, target: Mode) -> None:
    trained = source(copy.deepcopy(model))
    other = target(model)
    nn.init.ones_(other.get_parameter("stem.bn.weight"))
    other.load_state_dict(trained.state_dict())
    torch.testing.assert_close(other.eval()(clip()), trained.eval()(clip()), rtol=1e-5, atol=1e-6)


def test_synchronised_is_normal_in_one_process(model: VideoResNet) -> None:
    assert batch_norm.synchronised(model) is model
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def test_synchronised_on_cpus_is_refused(model: VideoResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match="batch_norm=synchronised needs a GPU"):
        batch_norm.synchronised(model)


def test_synchronised_converts_every_norm(model: VideoResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "world_size", lambda: 2)
    names = list(model.state_dict())
    changed = batch_norm.synchronised(model.to("meta"))
    assert norms(changed)
    assert all(isinstance(module, nn.SyncBatchNorm) for module in norms(changed))
    assert list(changed.state_dict()) == names
    assert len(sgd(changed, batch_size=64, lr=0.01).param_groups[1]["params"]) == 2 * len(norms(changed))
