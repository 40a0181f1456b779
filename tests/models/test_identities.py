"""What the non-local operation is under other names: self-attention, and non-local means."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.non_local_means import PatchSimilarity, non_local_means
from nlnet.models.pairwise import EmbeddedGaussian

CHANNELS = 6


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- Self-attention ---------------------------------------------------------------------------------------------------


def attention_and_block(*, scale: bool = True) -> tuple[nn.MultiheadAttention, NonLocalBlock]:
    """Single-head self-attention and an embedded Gaussian without subsampling and norm, with the same weights."""
    attention = nn.MultiheadAttention(CHANNELS, 1, batch_first=True).double()
    block = NonLocalBlock(
        CHANNELS,
        pairwise=partial(EmbeddedGaussian, scale=scale),
        subsample="none",
        embedding=CHANNELS,
        output=Output(norm=False),
    ).double()
    with torch.no_grad():
        for number, parameter in enumerate(attention.parameters()):
            parameter.copy_(some(*parameter.shape, seed=number + 1))
        query, key, value = attention.in_proj_weight.chunk(3)
        query_bias, key_bias, value_bias = attention.in_proj_bias.chunk(3)
        weights = {
            "pairwise.theta.weight": query,
            "pairwise.theta.bias": query_bias,
            "pairwise.phi.weight": key,
            "pairwise.phi.bias": key_bias,
            "g.weight": value,
            "g.bias": value_bias,
            "out.weight": attention.out_proj.weight,
            "out.bias": attention.out_proj.bias,
        }
    block.load_state_dict(weights)
    return attention, block


@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 4)], ids=["sequence", "image", "clip"])
def test_the_scaled_embedded_gaussian_is_single_head_self_attention(shape: tuple[int, ...]) -> None:
    attention, block = attention_and_block()
    x = some(2, CHANNELS, *shape).requires_grad_()
    tokens = x.flatten(2).mT
    expected, weights = attention(tokens, tokens, tokens)
    y = block(x) - x  # without the residual
    torch.testing.assert_close(y, expected.mT.view_as(x))
    torch.testing.assert_close(block.attention(x), weights)
    direction = some(*x.shape, seed=9)
    (gradient,) = torch.autograd.grad(y, x, direction)
    (expected_gradient,) = torch.autograd.grad(expected.mT.view_as(x), x, direction)
    torch.testing.assert_close(gradient, expected_gradient)


def test_without_the_scale_it_is_not() -> None:
    attention, block = attention_and_block(scale=False)
    x = some(2, CHANNELS, 5)
    expected, _ = attention(x.mT, x.mT, x.mT)
    assert (block(x) - x - expected.mT).abs().max() > 0.1


# --- Non-local means --------------------------------------------------------------------------------------------------


def patch_around(picture: np.ndarray, row: int, column: int, edge: int) -> np.ndarray:
    """The patch, with the picture mirrored at its borders (the border itself once)."""
    height, width = picture.shape

    def mirrored(index: int, size: int) -> int:
        index = abs(index)
        return index if index < size else 2 * (size - 1) - index

    offsets = range(-edge, edge + 1)
    return np.array([picture[mirrored(row + r, height), mirrored(column + c, width)] for r in offsets for c in offsets])


def by_definition(picture: np.ndarray, *, patch: int, h: float) -> np.ndarray:
    """Non-local means pixel by pixel: weights exp(-‖p_i - p_j‖² / h²) over their sum, of the centre pixels."""
    result = np.zeros_like(picture)
    pixels = list(product(*map(range, picture.shape)))
    for i in pixels:
        p_i = patch_around(picture, *i, patch // 2)
        total = weighted = 0.0
        for j in pixels:
            p_j = patch_around(picture, *j, patch // 2)
            weight = math.exp(-sum((p_i - p_j) ** 2) / h**2)
            total += weight
            weighted += weight * picture[j]
        result[i] = weighted / total
    return result


@pytest.mark.parametrize(("patch", "h"), [(1, 0.7), (3, 1.5), (3, 4.0), (5, 5.0)])
def test_non_local_means_is_its_definition(patch: int, h: float) -> None:
    pictures = some(2, 1, 6, 7)
    filtered = non_local_means(pictures, patch=patch, h=h)
    for picture, result in zip(pictures, filtered, strict=True):
        torch.testing.assert_close(result[0], torch.from_numpy(by_definition(picture[0].numpy(), patch=patch, h=h)))
    assert (filtered - pictures).abs().max() > 0.01


def test_it_is_a_non_local_block_whose_g_picks_the_centre() -> None:
    """On a picture of patches, with W_z that puts the result where the centre was."""
    patch, h = 3, 2.0
    picture = some(5, 6)
    patches = torch.from_numpy(
        np.array([[patch_around(picture.numpy(), row, column, 1) for column in range(6)] for row in range(5)])
    ).permute(2, 0, 1)[None]
    centre = patch**2 // 2
    similarity = partial(PatchSimilarity, h=h)
    block = NonLocalBlock(9, pairwise=similarity, subsample="none", embedding=1, output=Output(norm=False)).double()
    with torch.no_grad():
        block.g.weight.zero_()[0, centre] = 1
        block.out.weight.zero_()[centre, 0] = 1
        means = (block(patches) - patches)[0, centre]
    torch.testing.assert_close(means, torch.from_numpy(by_definition(picture.numpy(), patch=patch, h=h)))
    distances = torch.cdist(patches[0].flatten(1).mT, patches[0].flatten(1).mT)
    weights = (-distances.square() / h**2).exp()
    torch.testing.assert_close(block.attention(patches)[0], weights / weights.sum(1, keepdim=True))


def test_it_is_the_embedded_gaussian_up_to_its_scale() -> None:
    """D^0.5 in θ takes the scale of the scaled form back."""
    patches, centres = some(1, 8, 9), some(1, 8, 1, seed=1)
    similarity = PatchSimilarity(9, 1, h=1.5)
    theta, phi = similarity.theta(patches), similarity.phi(patches)
    expected = similarity(theta, phi, centres)
    torch.testing.assert_close(EmbeddedGaussian(9, 10, scale=False)(theta, phi, centres), expected)
    torch.testing.assert_close(EmbeddedGaussian(9, 10, scale=True)(10**0.5 * theta, phi, centres), expected)


def peak_signal_to_noise(picture: Tensor, original: Tensor) -> float:
    """In decibels, for values in [0, 1]."""
    return float(-10 * (picture - original).square().mean().log10())


def test_it_denoises() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    original = 0.2 + 0.6 * (((rows + columns) // 4) % 2).double()[None, None]  # stripes
    noisy = original + 0.1 * some(1, 1, 32, 32)
    before = peak_signal_to_noise(noisy, original)
    after = peak_signal_to_noise(non_local_means(noisy, patch=5, h=0.6), original)
    blurred = peak_signal_to_noise(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)(noisy), original)
    assert 19.5 < before < 20.5
    assert after > before + 8
    assert after > blurred + 8


def test_brightness_does_not_matter_and_single_precision_is_enough() -> None:
    picture = some(1, 1, 12, 12)
    expected = non_local_means(picture, patch=3, h=1.0)
    for offset in (0, 1000):
        shifted = non_local_means((picture + offset).float(), patch=3, h=1.0) - offset
        torch.testing.assert_close(shifted.double(), expected, rtol=0, atol=1e-5 if offset == 0 else 5e-4)


@pytest.mark.parametrize(
    ("options", "message"), [({"patch": 4, "h": 1.0}, "odd"), ({"patch": 3, "h": 0.0}, "positive")]
)
def test_wrong_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        non_local_means(some(1, 1, 4, 4), **options)  # type: ignore[arg-type]
