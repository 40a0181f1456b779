"""Convolutions by pictures are the convolutions of PyTorch: outputs and gradients, in any memory layout."""

import pytest
import torch
from torch import nn

from nlnet.models import convolution
from nlnet.models.convolution import Conv3d

SHAPES = [  # kernel, stride, padding
    ((1, 1, 1), (1, 1, 1), (0, 0, 0)),
    ((1, 1, 1), (1, 2, 2), (0, 0, 0)),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((1, 7, 7), (2, 2, 2), (0, 3, 3)),
    ((3, 1, 1), (1, 1, 1), (1, 0, 0)),
    ((5, 1, 1), (1, 1, 1), (2, 0, 0)),
    ((3, 1, 1), (2, 1, 1), (1, 0, 0)),
    ((3, 3, 3), (1, 2, 2), (1, 1, 1)),
    ((5, 7, 7), (2, 2, 2), (2, 3, 3)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), SHAPES, ids=str)
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=["first", "last"])
@pytest.mark.parametrize("many_weights", [1, 1 << 18])
def test_is_the_convolution(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: tuple[int, int, int],
    frames: int,
    layout: torch.memory_format,
    many_weights: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolution, "_MANY_WEIGHTS", many_weights)  # from which on 1×1×1 are matrix products
    torch.manual_seed(0)
    reference = nn.Conv3d(4, 6, kernel, stride, padding, bias=False).double()
    ours = Conv3d(4, 6, kernel, stride, padding, bias=False).double().to(memory_format=layout)
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(2, 4, frames, 7, 9, dtype=torch.float64)
    results = []
    for module, given in ((reference, x), (ours, x.to(memory_format=layout))):
        given = given.clone(memory_format=torch.preserve_format).requires_grad_()
        y = module(given)
        (y**3).sum().backward()
        assert given.grad is not None
        assert module.weight.grad is not None
        results.append((y, given.grad, module.weight.grad))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"bias": True},
        {"groups": 2},
        {"dilation": (1, 2, 2)},
        {"padding": (1, 0, 0)},
        {"padding": (2, 0, 0), "kernel_size": (3, 1, 1)},
        {"padding": (1, 0, 0), "kernel_size": (2, 1, 1)},
        {"padding": (0, 1, 1), "padding_mode": "replicate"},
    ],
    ids=str,
)
def test_what_is_not_rewritten_runs_as_it_is(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    arguments = {"kernel_size": (1, 3, 3), "bias": False} | options
    reference = nn.Conv3d(4, 6, **arguments)  # type: ignore[arg-type]
    ours = Conv3d(4, 6, **arguments)  # type: ignore[arg-type]
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(2, 4, 5, 7, 9)
    torch.testing.assert_close(ours(x), reference(x))


def test_channels_stay_last_in_memory_without_a_copy() -> None:
    x = torch.randn(2, 4, 3, 6, 6).to(memory_format=torch.channels_last_3d)
    for kernel, padding in (((1, 3, 3), (0, 1, 1)), ((3, 1, 1), (1, 0, 0))):
        conv = Conv3d(4, 6, kernel, padding=padding, bias=False).to(memory_format=torch.channels_last_3d)
        assert conv(x).is_contiguous(memory_format=torch.channels_last_3d)
    assert x.transpose(1, 2).reshape(6, 4, 6, 6).data_ptr() == x.data_ptr()


def test_gradients_have_the_strides_of_weights_with_channels_last() -> None:
    """DistributedDataParallel complains of others, which it has to copy."""
    kernels = (Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1)), Conv3d(8, 6, (3, 1, 1), padding=(1, 0, 0)))
    for conv in (Conv3d(1024, 256, 1), Conv3d(8, 8, 1), *kernels):
        conv.to(memory_format=torch.channels_last_3d)
        x = torch.randn(1, conv.in_channels, 2, 3, 3).to(memory_format=torch.channels_last_3d)
        conv(x).sum().backward()
        assert conv.weight.grad is not None
        assert conv.weight.grad.stride() == conv.weight.stride()
