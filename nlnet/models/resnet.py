"""C2D and I3D residual networks for video (paper, table 1), with non-local blocks after chosen residual blocks.

One class and its records: an architecture is a list of stages, the temporal kernels and the strides. The names of the
parameters follow the Caffe2 and SlowFast order: stem.conv, res2.0.a … res2.0.c_bn, res3.nl1.g, head.
Axes: B clips, C channels, T frames, H×W positions of a frame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.convolution import Conv3d

Inflation = Literal["3x1x1", "3x3x3"]


@dataclass(frozen=True)
class Stem:
    """conv1 and pool1. Kernels, strides and paddings are (time, height, width); conv1's temporal kernel is apart."""

    channels: int = 64
    kernel: int = 7
    stride: Sequence[int] = (1, 2, 2)
    pool_kernel: Sequence[int] = (1, 3, 3)
    pool_stride: Sequence[int] = (1, 2, 2)
    pool_padding: Sequence[int] = (0, 0, 0)


@dataclass(frozen=True)
class Stage:
    """One stage of residual blocks: output channels, number of blocks, spatial stride of the first block.

    ``pool`` is the temporal (kernel, stride, padding) of a max pool behind the stage (pool2 of table 1), or None.
    Non-local blocks of the stage attend within ``non_local_groups`` runs of frames of equal length.
    """

    channels: int
    blocks: int
    spatial_stride: int = 2
    pool: Sequence[int] | None = None
    non_local_groups: int = 1


def depth(stages: Mapping[str, Stage]) -> int:
    """The number in the network's name: three convolutions in each block, conv1 and the classifier (50, 101, …)."""
    return 2 + 3 * sum(stage.blocks for stage in stages.values())


class Bottleneck(nn.Module):
    """Residual block 1×1×1, 1×3×3, 1×1×1. [B, C_in, T, H, W] -> [B, C_out, T, H / stride, W / stride].

    A temporal kernel above 1 inflates the first convolution to t×1×1 (paper, section 4, "I3D 3×1×1") or, with
    ``inflation="3x3x3"``, the second one to t×3×3. The spatial stride is on the 3×3 convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, temporal_kernel: int = 1, inflation: Inflation = "3x1x1"
    ) -> None:
        super().__init__()
        inner = outputs // 4
        t_a, t_b = (temporal_kernel, 1) if inflation == "3x1x1" else (1, temporal_kernel)
        if stride != 1 or inputs != outputs:
            self.branch1 = Conv3d(inputs, outputs, 1, stride=(1, stride, stride), bias=False)
            self.branch1_bn = nn.BatchNorm3d(outputs)
        self.a = Conv3d(inputs, inner, (t_a, 1, 1), padding=(t_a // 2, 0, 0), bias=False)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = Conv3d(inner, inner, (t_b, 3, 3), stride=(1, stride, stride), padding=(t_b // 2, 1, 1), bias=False)
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = Conv3d(inner, outputs, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x
        x = F.relu(self.a_bn(self.a(x)), inplace=True)
        x = F.relu(self.b_bn(self.b(x)), inplace=True)
        x = self.c_bn(self.c(x))
        x += shortcut  # in place: neither layer in front needs its output to go backward
        return F.relu(x, inplace=True)


class VideoResNet(nn.Module):
    """Residual network for clips, with non-local blocks. Clip [B, 3, T, H, W] (normalised) -> logits [B, classes].

    Args:
        stages: name (res2 … res5) -> record, in order.
        num_classes: size of the classifier.
        stem: conv1 and pool1.
        temporal_kernels: {conv1: 5, res2: [3, 3, 3], …}: of conv1 and of each residual block. Blocks without an entry
            have kernel 1, so the empty mapping is C2D.
        inflation: which convolution of a block the temporal kernel inflates; see ``Bottleneck``.
        non_local: makes a block from its channels (and ``groups=…``, where a stage has non-local groups).
        placement: depth -> stage -> indices of the residual blocks that a non-local block follows. A network without
            a row for its depth has none only when the whole mapping is empty.
        dropout: in front of the classifier, in training.

    Any T, H and W work of which the strides leave something: the head averages over what is left of them.
    """

    def __init__(
        self,
        stages: Mapping[str, Stage],
        *,
        num_classes: int,
        stem: Stem,
        temporal_kernels: Mapping[str, int | Sequence[int]] | None = None,
        inflation: Inflation = "3x1x1",
        non_local: Callable[..., nn.Module] | None = None,
        placement: Mapping[int, Mapping[str, Sequence[int]]] | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        kernels = _kernels(stages, temporal_kernels or {})
        places = _places(stages, {int(key): row for key, row in (placement or {}).items()})
        if inflation not in get_args(Inflation):
            raise ConfigError(f"model.inflation must be {' or '.join(get_args(Inflation))}, not '{inflation}'")
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout={dropout} must be in [0, 1)")
        for name, stage in stages.items():
            if stage.channels < 4 or stage.channels % 4 or stage.blocks < 1:
                raise ConfigError(
                    f"model.stages.{name}: channels={stage.channels} must be a multiple of 4, the bottleneck's width, "
                    f"and blocks={stage.blocks} at least 1"
                )
        (conv1,) = kernels["conv1"]
        self.stem = nn.Sequential()
        self.stem.add_module(
            "conv",
            Conv3d(
                3,
                stem.channels,
                (conv1, stem.kernel, stem.kernel),
                stride=_triple(stem.stride),
                padding=(conv1 // 2, stem.kernel // 2, stem.kernel // 2),
                bias=False,
            ),
        )
        self.stem.add_module("bn", nn.BatchNorm3d(stem.channels))
        self.stem.add_module("relu", nn.ReLU(inplace=True))
        self.stem.add_module(
            "pool", nn.MaxPool3d(_triple(stem.pool_kernel), _triple(stem.pool_stride), _triple(stem.pool_padding))
        )
        inputs = stem.channels
        for name, stage in stages.items():
            blocks = nn.Sequential()
            for index, temporal_kernel in enumerate(kernels[name]):
                stride = stage.spatial_stride if index == 0 else 1
                block = Bottleneck(
                    inputs, stage.channels, stride=stride, temporal_kernel=temporal_kernel, inflation=inflation
                )
                blocks.add_module(str(index), block)
                inputs = stage.channels
                if index in places.get(name, ()):
                    if non_local is None:
                        raise ConfigError("placement asks for non-local blocks, but non_local is not given")
                    groups = {"groups": stage.non_local_groups} if stage.non_local_groups != 1 else {}
                    blocks.add_module(f"nl{index}", non_local(inputs, **groups))
            if stage.pool is not None:
                kernel, step, padding = stage.pool
                blocks.add_module("pool", nn.MaxPool3d((kernel, 1, 1), (step, 1, 1), (padding, 0, 0)))
            self.add_module(name, blocks)
        self.stage_names = tuple(stages)
        self.frozen: tuple[str, ...] = ()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)
        self._initialise()

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(clip).mean(dim=(2, 3, 4))))
        return logits

    def features(self, clip: Tensor) -> Tensor:
        """The last feature map: [B, 3, T, H, W] -> [B, C, T', H', W']."""
        x: Tensor = self.stem(clip)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        return x

    def window_logits(self, clip: Tensor, window: int) -> Tensor:
        """The classifier on each window of the last map, row by row: [B, 3, T, H, W] -> [B, L, classes].

        Windows have stride 1, all of T' and ``window`` positions each way, or all where the map has fewer. No dropout.
        """
        x_BCHW = self.features(clip).mean(dim=2)
        size = (min(window, x_BCHW.shape[2]), min(window, x_BCHW.shape[3]))
        logits: Tensor = self.head(F.avg_pool2d(x_BCHW, size, stride=1).flatten(2).mT)
        return logits

    def freeze(self, names: Sequence[str]) -> None:
        """Keeps these parts (stem, res2, …) as they are: no gradients, and batch norm with its running statistics."""
        for name in names:
            if name not in ("stem", *self.stage_names):
                raise ConfigError(f"init.freeze: no part '{name}'; there are stem, {', '.join(self.stage_names)}")
        for name in names:
            self.get_submodule(name).requires_grad_(False)
        self.frozen = tuple(names)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def _initialise(self) -> None:
        """He initialisation of the convolutions, last batch norm of each residual branch 0, classifier N(0, 0.01).

        As the authors' configs have it; non-local blocks have initialised themselves and are left alone.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.c_bn.weight)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    """Any sequence of three, such as a list of a YAML -> what the layers of PyTorch take."""
    if len(values) != 3 or min(values) < 0:
        raise ConfigError(f"model.stem: {list(values)} must be three numbers, of time, height and width")
    time, height, width = values
    return time, height, width


def _kernels(stages: Mapping[str, Stage], given: Mapping[str, int | Sequence[int]]) -> dict[str, list[int]]:
    """The temporal kernels of conv1 (a list of one) and of the blocks of each stage, checked; 1 where none is given."""
    kernels = {"conv1": [1]} | {name: [1] * stage.blocks for name, stage in stages.items()}
    for name, values in given.items():
        key = f"model.temporal_kernels.{name}"
        if name not in kernels:
            raise ConfigError(f"{key}: the network has {', '.join(kernels)}")
        listed = [values] if isinstance(values, int) else list(values)
        if len(listed) != len(kernels[name]):
            raise ConfigError(f"{key} has {len(listed)} entries for {len(kernels[name])} blocks")
        if not all(kernel > 0 and kernel % 2 for kernel in listed):
            raise ConfigError(f"{key}: kernels must be odd, so that the frames stay as many, not {listed}")
        kernels[name] = listed
    return kernels


def _places(
    stages: Mapping[str, Stage], placement: Mapping[int, Mapping[str, Sequence[int]]]
) -> Mapping[str, Sequence[int]]:
    """The row of a placement for these stages, checked."""
    if not placement:
        return {}
    this = depth(stages)
    if this not in placement:
        raise ConfigError(
            f"model.placement has rows for depth {', '.join(map(str, placement))}, none for this network of depth "
            f"{this}; add one: ++model.placement.{this}.{next(iter(stages))}=[0], or take model/placement=none"
        )
    row = placement[this]
    for name, indices in row.items():
        if name not in stages:
            raise ConfigError(f"model.placement.{this}.{name}: the network has the stages {', '.join(stages)}")
        for index in indices:
            if not 0 <= index < stages[name].blocks:
                raise ConfigError(
                    f"model.placement.{this}.{name}: block {index} does not exist; {name} has the blocks 0 to "
                    f"{stages[name].blocks - 1}"
                )
    return row
