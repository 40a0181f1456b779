"""Every pairwise function, found by introspection: a new class in pairwise.py is tested without an edit here."""

import inspect

import pytest
import torch
from torch import Tensor, nn

from nlnet.models import pairwise
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise

CLASSES = [
    value
    for name, value in inspect.getmembers(pairwise, inspect.isclass)
    if issubclass(value, Pairwise) and value is not Pairwise and not name.startswith("_")
]
every_class = pytest.mark.parametrize("make", CLASSES, ids=lambda make: make.__name__)


def randomise(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.double()


def tokens(n: int, m: int, channels: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    shapes = ((2, n, channels), (2, m, channels), (2, m, 3))
    queries, keys, g = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return queries, keys, g


def test_the_four_of_the_paper_are_found() -> None:
    assert {Gaussian, EmbeddedGaussian, DotProduct, Concatenation} <= set(CLASSES)


@every_class
@pytest.mark.parametrize(("n", "m"), [(7, 5), (1, 5), (7, 1), (1, 1), (40, 60)])
def test_forward_is_the_weights_times_g(make: type[Pairwise], n: int, m: int) -> None:
    module = randomise(make(6, 4))
    queries, keys, g = tokens(n, m)
    theta, phi = module.theta(queries), module.phi(keys)
    weights = module.weights(theta, phi)
    assert weights.shape == (2, n, m)
    torch.testing.assert_close(module(theta, phi, g), weights @ g, rtol=1e-10, atol=1e-12)


@every_class
def test_gradients(make: type[Pairwise]) -> None:
    module = randomise(make(6, 4))
    inputs = [tensor.requires_grad_() for tensor in tokens(4, 3)]

    def embedded(queries: Tensor, keys: Tensor, g: Tensor) -> Tensor:
        return module(module.theta(queries), module.phi(keys), g)

    assert torch.autograd.gradcheck(embedded, inputs)
    (embedded(*inputs) ** 2).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("make", [Gaussian, EmbeddedGaussian])
def test_softmax_forms_have_weights_that_sum_to_one(make: type[Pairwise]) -> None:
    queries, keys, _ = tokens(7, 5)
    module = randomise(make(6, 4))
    weights = module.weights(module.theta(queries), module.phi(keys))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7, dtype=torch.float64))
    assert (weights >= 0).all()


def test_weights_are_the_equations_of_the_paper() -> None:
    queries, keys, _ = tokens(3, 4)
    x_i, x_j = queries[1, 2], keys[1, 3]
    others = keys[1]  # x_j is the last of them

    def weights(module: Pairwise) -> Tensor:
        return module.weights(module.theta(queries), module.phi(keys))

    exps = [(x_i @ x).exp() for x in others]
    torch.testing.assert_close(weights(Gaussian(6, 4))[1, 2, 3], exps[3] / sum(exps))

    for scale, factor in ((True, 0.5), (False, 1.0)):  # D = 4: D^-0.5 is 0.5
        module = randomise(EmbeddedGaussian(6, 4, scale=scale))
        exps = [(factor * (module.theta(x_i) @ module.phi(x))).exp() for x in others]
        torch.testing.assert_close(weights(module)[1, 2, 3], exps[3] / sum(exps))

    module = randomise(DotProduct(6, 4))
    torch.testing.assert_close(weights(module)[1, 2, 3], module.theta(x_i) @ module.phi(x_j) / 4)

    module = randomise(Concatenation(6, 4))
    joined = torch.stack([torch.cat([module.theta(x), module.phi(key)]) for x in queries[1] for key in others])
    f = (joined @ module.w_f).clamp(min=0).view(3, 4)
    torch.testing.assert_close(weights(module)[1], f / 4)
    assert f.any()  # or the line above compares nothing
