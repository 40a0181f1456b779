"""What the tensors of a network say of its architecture. Pure: names and shapes in, a record out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nlnet.errors import CheckpointError

PairwiseKind = Literal["gaussian", "embedded", "concatenation"]


@dataclass(frozen=True)
class NonLocalKind:
    """What all non-local blocks of a network have in common, as far as tensors show it.

    ``embedded`` is the embedded Gaussian or the dot product: they have the same tensors.
    """

    pairwise: PairwiseKind
    norm: bool
    out_bias: bool


@dataclass(frozen=True)
class Architecture:
    """A residual network of bottlenecks: what is in its tensors, and no strides, for those are not.

    Attributes:
        stem: channels and spatial kernel of conv1.
        channels: stage (res2, …) -> output channels.
        temporal_kernels: conv1 and stages -> kernel of each residual block.
        inflation: which convolution of a block has them; 3x1x1 where none is above 1.
        placement: stage -> residual blocks that a non-local block follows; stages without one are absent.
        non_local: None without non-local blocks.
        num_classes: None without a classifier.
    """

    stem: tuple[int, int]
    channels: Mapping[str, int]
    temporal_kernels: Mapping[str, tuple[int, ...]]
    inflation: Literal["3x1x1", "3x3x3"]
    placement: Mapping[str, tuple[int, ...]]
    non_local: NonLocalKind | None
    num_classes: int | None

    @property
    def depth(self) -> int:
        """Three convolutions in each block, conv1 and the classifier."""
        return 2 + 3 * sum(len(self.temporal_kernels[stage]) for stage in self.channels)

    @property
    def is_slow(self) -> bool:
        """Kernels over time in the later stages alone: the Slow network, which pools nothing over time."""
        conv1, *blocks = (kernel for kernels in self.temporal_kernels.values() for kernel in kernels)
        return conv1 == 1 and max(blocks) > 1

    def line(self) -> str:
        """One line for people."""
        kernels = max(max(values) for values in self.temporal_kernels.values())
        text = f"depth {self.depth}, " + (
            f"temporal kernels, inflated {self.inflation}" if kernels > 1 else "2-D kernels"
        )
        if self.non_local is not None:
            blocks = ", ".join(f"{stage} {list(indices)}" for stage, indices in self.placement.items())
            text += f", non-local blocks behind {blocks}"
        return text + (f", {self.num_classes} classes" if self.num_classes else ", no classifier")


def read_architecture(tensors: Mapping[str, Tensor], *, source: str) -> Architecture:
    """The architecture of a network from its tensors in our names; 2-D kernels count as temporal kernels of 1.

    Raises:
        CheckpointError: there is no such network; ``source`` names the file.
    """
    if "stem.conv.weight" not in tensors:
        raise CheckpointError(f"{source}: conv1 is missing: not the weights of a whole network")
    stem = tensors["stem.conv.weight"]
    channels: dict[str, int] = {}
    kernels_a: dict[str, tuple[int, ...]] = {"conv1": (_temporal(stem),)}
    kernels_b = dict(kernels_a)
    for stage, count in sorted(_blocks(tensors, source).items()):
        missing = [
            f"{stage}.{i}.{conv}.weight"
            for i in range(count)
            for conv in "abc"
            if f"{stage}.{i}.{conv}.weight" not in tensors
        ]
        if missing:
            raise CheckpointError(f"{source}: {missing[0]} is missing: not a whole network of bottlenecks")
        channels[stage] = len(tensors[f"{stage}.0.c.weight"])
        kernels_a[stage] = tuple(_temporal(tensors[f"{stage}.{i}.a.weight"]) for i in range(count))
        kernels_b[stage] = tuple(_temporal(tensors[f"{stage}.{i}.b.weight"]) for i in range(count))
    in_a, in_b = (any(max(kernels[stage]) > 1 for stage in channels) for kernels in (kernels_a, kernels_b))
    if in_a and in_b:
        raise CheckpointError(
            f"{source}: temporal kernels in the 1x1 and in the 3x3 convolutions; one of them is known"
        )
    placement = _placement(tensors)
    head = tensors.get("head.weight")
    return Architecture(
        stem=(len(stem), stem.shape[-1]),
        channels=channels,
        temporal_kernels=kernels_b if in_b else kernels_a,
        inflation="3x3x3" if in_b else "3x1x1",
        placement=placement,
        non_local=_non_local(tensors, placement, source) if placement else None,
        num_classes=None if head is None else len(head),
    )


def _temporal(weight: Tensor) -> int:
    return weight.shape[2] if weight.dim() == 5 else 1


def _blocks(tensors: Mapping[str, Tensor], source: str) -> dict[str, int]:
    """Stage -> number of residual blocks."""
    counts: dict[str, int] = {}
    for name in tensors:
        if match := re.fullmatch(r"(res\d)\.(\d+)\.[abc]\.weight", name):
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    if not counts or sorted(counts) != [f"res{number}" for number in range(2, 2 + len(counts))]:
        raise CheckpointError(
            f"{source}: the stages are {', '.join(sorted(counts)) or 'none'}, not res2 and those after it"
        )
    return counts


def _placement(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    places: dict[str, set[int]] = {}
    for name in tensors:
        if match := re.match(r"(res\d)\.nl(\d+)\.", name):
            places.setdefault(match[1], set()).add(int(match[2]))
    return {stage: tuple(sorted(places[stage])) for stage in sorted(places)}


def _non_local(tensors: Mapping[str, Tensor], placement: Mapping[str, tuple[int, ...]], source: str) -> NonLocalKind:
    kinds = {}
    for block in (f"{stage}.nl{index}" for stage, indices in placement.items() for index in indices):
        g = tensors.get(f"{block}.g.weight")
        if g is None or f"{block}.out.weight" not in tensors:
            raise CheckpointError(f"{source}: {block} has no g or no W_z")
        if g.shape[0] != max(g.shape[1] // 2, 1):
            raise CheckpointError(
                f"{source}: {block} embeds {g.shape[1]} channels into {g.shape[0]}; half is known (paper, 3.3)"
            )
        if f"{block}.pairwise.w_f" in tensors:
            pairwise: PairwiseKind = "concatenation"
        else:
            pairwise = "embedded" if f"{block}.pairwise.theta.weight" in tensors else "gaussian"
        kinds[block] = NonLocalKind(
            pairwise, norm=f"{block}.bn.weight" in tensors, out_bias=f"{block}.out.bias" in tensors
        )
    if len(set(kinds.values())) > 1:
        raise CheckpointError(f"{source}: its non-local blocks are of several kinds; all must be alike")
    return next(iter(kinds.values()))
