"""Inflation: kernels repeated over time and divided by t."""

import pytest
import torch
import torch.nn.functional as F

from nlnet.models.inflate import inflate, inflate_to


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_every_frame_has_the_kernel_divided_by_t(frames: int) -> None:
    weight = torch.randn(4, 3, 7, 7)
    inflated = inflate(weight, frames)
    assert inflated.shape == (4, 3, frames, 7, 7)
    for frame in range(frames):
        torch.testing.assert_close(inflated[:, :, frame], weight / frames)


def test_a_static_video_has_the_response_of_the_image() -> None:
    weight, image = torch.randn(4, 3, 3, 3), torch.randn(2, 3, 8, 9)
    response = F.conv3d(image[:, :, None].expand(-1, -1, 5, -1, -1), inflate(weight, 3))
    for frame in range(3):
        torch.testing.assert_close(response[:, :, frame], F.conv2d(image, weight), rtol=1e-4, atol=1e-4)


def test_only_2d_kernels_of_3d_convolutions_are_inflated() -> None:
    source = {
        "conv": torch.randn(4, 3, 3, 3),
        "image_conv": torch.randn(4, 3, 3, 3),
        "video_conv": torch.randn(4, 3, 3, 1, 1),
        "scale": torch.randn(4),
        "matrix": torch.randn(5, 4),
    }
    target = {name: torch.empty_like(tensor) for name, tensor in source.items()} | {"conv": torch.empty(4, 3, 5, 3, 3)}
    inflated = inflate_to(source, target)
    assert list(inflated) == list(source)
    torch.testing.assert_close(inflated.pop("conv"), inflate(source["conv"], 5))
    for name, tensor in inflated.items():
        assert torch.equal(tensor, source[name]), name


def test_entries_that_the_target_lacks_stay_as_they_are() -> None:
    """Whoever puts them into the network says that they were left out."""
    source = {"extra": torch.randn(4, 3, 3, 3)}
    assert torch.equal(inflate_to(source, {})["extra"], source["extra"])
