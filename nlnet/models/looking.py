"""What a network looks at in one clip: the attention of its non-local blocks, and class-activation maps.

Positions are (frame, row, column) of a map, from 0. ``Grid`` says which pixels one covers.
Axes: C channels, K classes, T frames, H×W places of a frame, h×w places of the keys; P query positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock

Position = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """A map's frames and places over a clip of so many frames and pixels.

    ``cells`` is how many places of the network's own map one place covers: (2, 2) for keys that were pooled 2×2.
    Pooling drops an odd last row, so that the places of the keys may cover a little less than the picture.
    """

    map: tuple[int, int, int]  # T, H, W of the network's map
    clip: tuple[int, int, int]  # frames, height, width in pixels
    cells: tuple[int, int] = (1, 1)

    def place(self, frame: int, y: float, x: float) -> Position:
        """The position of the network's map that covers this pixel."""
        wanted = (frame, y, x)
        for value, size, what in zip(wanted, self.clip, ("frame", "y", "x"), strict=True):
            if not 0 <= value < size:
                raise ConfigError(f"{what}={value:g} lies outside the clip, which has {what} 0 to {size - 1}")
        t, row, column = (
            int(value * places / size) for value, places, size in zip(wanted, self.map, self.clip, strict=True)
        )
        return t, row, column

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """The middle (y, x) of a place in pixels."""
        y, x = (
            (place + 0.5) * cells * pixels / places
            for place, cells, pixels, places in zip((row, column), self.cells, self.clip[1:], self.map[1:], strict=True)
        )
        return y, x

    def frame(self, t: int) -> int:
        """The middle one of the clip's frames that the t-th of the map stands for."""
        return int((t + 0.5) * self.clip[0] / self.map[0])


@dataclass(frozen=True)
class Attention:
    """What one query position of a block attends to."""

    block: str
    pairwise: str
    query: Position  # of the network's map
    weights: Tensor  # [T, h, w]: f(x_i, x_j) / C(x) of each key; 0 where the query does not attend
    grid: Grid  # of the keys

    def strongest(self, count: int) -> list[tuple[Position, float]]:
        """The ``count`` keys of the highest weights, highest first; fewer where fewer are above 0."""
        values, places = self.weights.flatten().sort(descending=True, stable=True)
        shape = self.weights.shape
        found = []
        for value, place in zip(values[:count].tolist(), places[:count].tolist(), strict=True):
            if value > 0:
                t, rest = divmod(place, shape[1] * shape[2])
                found.append(((t, *divmod(rest, shape[2])), value))
        return found


@dataclass(frozen=True)
class Statistics:
    """How far a block looks: means over some query positions, of |weights| made to sum to 1.

    ``uniform_…`` are the same for equal weights on all keys that the query attends to: what no preference looks like.
    """

    queries: int
    entropy: float  # nats
    uniform_entropy: float
    frames: float  # mean distance in frames of the clip
    uniform_frames: float
    pixels: float  # mean distance within the picture, in pixels
    uniform_pixels: float
    own_frame: float  # share of the weight on the query's own frame (of the map)
    uniform_own_frame: float


def non_local_blocks(model: nn.Module) -> dict[str, NonLocalBlock]:
    """The non-local blocks of a network by name, in their order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, NonLocalBlock)}


class Look:
    """One clip, seen by a network: its blocks' inputs are kept, and each answers for any query position.

    Args:
        model: clips [B, 3, T, H, W] -> logits [B, K]. It is used in evaluation mode.
        clip: [1, 3, T, H, W], normalised, on the model's device.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, clip: Tensor) -> None:
        self.blocks = non_local_blocks(model)
        self.clip_size: tuple[int, int, int] = (clip.shape[2], clip.shape[3], clip.shape[4])
        self._inputs: dict[str, Tensor] = {}
        self._changes: dict[str, Tensor] = {}
        hooks = [block.register_forward_hook(self._keeper(name)) for name, block in self.blocks.items()]
        was_training = model.training
        model.eval()
        try:
            self.logits: Tensor = model(clip)[0].float()
        finally:
            model.train(was_training)
            for hook in hooks:
                hook.remove()

    def _keeper(self, name: str) -> Any:
        def keep(block: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self._inputs[name] = inputs[0].clone()  # what follows may write into it
            self._changes[name] = (output - inputs[0])[0].norm(dim=0)

        return keep

    def block(self, name: str) -> NonLocalBlock:
        """The block of this name.

        Raises:
            ConfigError: the network has none; those it has are named.
        """
        if name not in self.blocks:
            have = f"it has {', '.join(self.blocks)}" if self.blocks else "it has none: see model/placement"
            raise ConfigError(f"{name}: the network has no such non-local block; {have}")
        return self.blocks[name]

    def grid(self, name: str) -> Grid:
        """The positions of a block's map over the clip."""
        self.block(name)
        t, height, width = self._inputs[name].shape[2:]
        return Grid((t, height, width), self.clip_size)

    def strongest_query(self, name: str) -> Position:
        """The position that the block changes most: where ‖z - x‖ is largest."""
        self.block(name)
        change_THW = self._changes[name]
        t, rest = divmod(int(change_THW.argmax()), change_THW.shape[1] * change_THW.shape[2])
        return (t, *divmod(rest, change_THW.shape[2]))

    @torch.no_grad()
    def attention(self, name: str, queries: Sequence[Position]) -> list[Attention]:
        """What these positions of a block's map attend to. Only their weights are computed: any size works."""
        block, grid = self.block(name), self.grid(name)
        weights_PThw = block.attention_at(self._inputs[name], queries).float().cpu()
        cells = (2 if grid.map[1] > 1 else 1, 2 if grid.map[2] > 1 else 1)
        keys = Grid(grid.map, grid.clip, cells if block.subsample != "none" else (1, 1))
        form = type(block.pairwise).__name__
        return [
            Attention(name, form, query, weights, keys) for query, weights in zip(queries, weights_PThw, strict=True)
        ]

    def statistics(self, name: str, *, queries: int = 256) -> Statistics:
        """How far a block looks, over ``queries`` positions spread evenly over its map (all, if it has no more)."""
        grid = self.grid(name)
        total = math.prod(grid.map)
        count = min(queries, total)
        numbers = [(2 * index + 1) * total // (2 * count) for index in range(count)]
        area = grid.map[1] * grid.map[2]
        positions = [(number // area, *divmod(number % area, grid.map[2])) for number in numbers]
        own = torch.zeros(9, dtype=torch.float64)
        for query in positions:  # one at a time: a row is small, all of them together need not be
            (attention,) = self.attention(name, [query])
            attended = self._attended(name, query, attention)
            own += torch.tensor([1.0, *_measures(attention, attention.weights.abs()), *_measures(attention, attended)])
        _, entropy, frames, pixels, own_frame, *uniform = (own / count).tolist()
        return Statistics(count, entropy, uniform[0], frames, uniform[1], pixels, uniform[2], own_frame, uniform[3])

    def _attended(self, name: str, query: Position, attention: Attention) -> Tensor:
        """1 for the keys that the query may attend to, 0 for the others: [T, h, w]."""
        block = self.blocks[name]
        mask = torch.ones_like(attention.weights)
        t, row, column = query
        length = mask.shape[0] // block.groups
        mask[: t // length * length] = 0
        mask[(t // length + 1) * length :] = 0
        if block.axes == "space":
            mask[:t] = 0
            mask[t + 1 :] = 0
        elif block.axes == "time":
            here = torch.zeros_like(mask)
            here[:, row, column] = 1
            mask *= here
        return mask


def _measures(attention: Attention, weights: Tensor) -> tuple[float, float, float, float]:
    """Entropy (nats), mean distance in frames of the clip and in pixels, and the share of the own frame.

    Of weights [T, h, w] >= 0, made to sum to 1; all 0 (a ReLU that lets nothing through) count as equal weights.
    """
    weights = weights.double()
    if weights.sum() == 0:
        weights = torch.ones_like(weights)
    share = weights / weights.sum()
    t, row, column = attention.query
    keys = attention.grid
    y, x = Grid(keys.map, keys.clip).centre(row, column)
    y_step, x_step = (a - b for a, b in zip(keys.centre(1, 1), keys.centre(0, 0), strict=True))
    y_first, x_first = keys.centre(0, 0)
    down = y_first + y_step * torch.arange(share.shape[1]) - y
    right = x_first + x_step * torch.arange(share.shape[2]) - x
    pixels = (down[:, None] ** 2 + right**2).sqrt()
    frames = (torch.arange(share.shape[0]) - t).abs() * keys.clip[0] / keys.map[0]
    entropy = -torch.special.xlogy(share, share).sum()
    return (
        float(entropy),
        float((share.sum((1, 2)) * frames).sum()),
        float((share.sum(0) * pixels).sum()),
        float(share[t].sum()),
    )


@torch.no_grad()
def class_activation(model: Any, clip: Tensor) -> Tensor:
    """How much each place of the last map speaks for each class: clip [1, 3, T, H, W] -> [K, T', H', W'].

    The classifier is linear and comes behind a mean over all places, so that the mean of a class's map, with its bias
    added, is its logit (class-activation mapping: Zhou et al., 2016).

    Raises:
        ConfigError: a network without a linear head behind a global mean.
    """
    if not (hasattr(model, "features") and isinstance(getattr(model, "head", None), nn.Linear)):
        raise ConfigError(f"{type(model).__name__} has no linear classifier behind a mean over its last map")
    was_training = model.training
    model.eval()
    try:
        features_CTHW = model.features(clip)[0].float()
    finally:
        model.train(was_training)
    return torch.einsum("kc,cthw->kthw", model.head.weight.float(), features_CTHW)
