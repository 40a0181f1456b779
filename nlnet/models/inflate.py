"""Inflation: the weights of a 2-D network in a 3-D one (paper, section 4; Carreira and Zisserman, 2017)."""

from collections.abc import Mapping

from torch import Tensor


def inflate(weight: Tensor, frames: int) -> Tensor:
    """Repeats a 2-D kernel over time and divides by t, so that a static video gives the same response.

    [out, in, H, W] -> [out, in, t, H, W].
    """
    return weight[:, :, None].repeat(1, 1, frames, 1, 1) / frames


def inflate_to(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of ``source`` in the shapes of ``target``: 2-D kernels inflated, all others as they are."""
    inflated = {}
    for name, weight in source.items():
        wanted = target[name].shape if name in target else ()
        inflated[name] = inflate(weight, wanted[2]) if weight.dim() == 4 and len(wanted) == 5 else weight
    return inflated
