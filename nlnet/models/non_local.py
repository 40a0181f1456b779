"""The non-local block (paper, equations 1 and 6, figure 2): a residual that lets every position attend to every other.

Axes: B clips, C channels, T frames, H×W positions of a frame; N query tokens, M key tokens, V channels of g.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.pairwise import EmbeddedGaussian, Pairwise

Axes = Literal["spacetime", "space", "time"]
Subsample = Literal["first", "last", "none"]


@dataclass(frozen=True)
class Output:
    """W_z of equation 6, and the batch norm behind it.

    With ``norm``, ``scale_init`` is the initial scale of the batch norm (0: the block starts as the identity; paper,
    section 4.1). Without it, as in the authors' long-clip networks, W_z itself starts at zero. MMAction2 has no
    ``bias`` in front of its batch norm.
    """

    bias: bool = True
    norm: bool = True
    scale_init: float = 0.0


class NonLocalBlock(nn.Module):
    """z = x + BN(W_z y) with y of equation 1. [B, C, T, H, W] (or [B, C, H, W], [B, C, T]) -> the same shape.

    Args:
        channels: C of the input.
        pairwise: makes the pairwise function from (channels, embedding channels); see ``nlnet.models.pairwise``.
        axes: which positions a position attends to: all of the clip (``spacetime``), those of its own frame
            (``space``) or the same place in all frames (``time``); paper, table 2d.
        subsample: where keys and g are max-pooled 1×2×2: ``first``, in front of φ and g, as in the authors' code;
            ``last``, behind them, as in the paper's text and MMAction2; or ``none``. First and last have the same
            parameters but differ, as a maximum does not commute with a linear map. Time-only attention has one key per
            frame and nothing to pool; the paper leaves this case open.
        embedding: channels of θ, φ and g; half of C by default (paper, section 3.3).
        groups: the frames are cut into so many runs of equal length, and a position attends to its own run only (the
            authors' long clips; SlowFast).
        output: W_z and its batch norm.
        weight_std: standard deviation of the initial projections: 0.01 in the authors' code; None for He's
            initialisation (fan out), which the paper names (section 4.1).

    An inserted block changes nothing at the start, so it can be put into any trained network. The projections are
    linear maps of tokens: exactly the 1×1×1 convolutions of the paper, for inputs of one, two or three dimensions.
    """

    def __init__(
        self,
        channels: int,
        *,
        pairwise: Callable[[int, int], Pairwise] = EmbeddedGaussian,
        axes: Axes = "spacetime",
        subsample: Subsample = "first",
        embedding: int | None = None,
        groups: int = 1,
        output: Output = Output(),
        weight_std: float | None = 0.01,
    ) -> None:
        super().__init__()
        if axes not in get_args(Axes):
            raise ConfigError(f"axes of a non-local block must be {', '.join(get_args(Axes))}, not '{axes}'")
        if subsample not in get_args(Subsample):
            raise ConfigError(f"subsample of a non-local block is {', '.join(get_args(Subsample))}, not '{subsample}'")
        if groups < 1:
            raise ConfigError(f"groups of a non-local block must be at least 1, not {groups}")
        embedding = embedding or max(channels // 2, 1)
        self.axes = axes
        self.subsample = subsample if axes != "time" else "none"
        self.groups = groups
        self.pairwise = pairwise(channels, embedding)
        self.g = nn.Linear(channels, embedding)
        self.out = nn.Linear(embedding, channels, bias=output.bias)
        self.bn = nn.BatchNorm1d(channels) if output.norm else nn.Identity()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif not name.startswith("bn."):
                # He: the deviation for a linear map of this many outputs, or for the vector w_f of this many inputs.
                nn.init.normal_(parameter, std=(2 / parameter.shape[0]) ** 0.5 if weight_std is None else weight_std)
        if isinstance(self.bn, nn.BatchNorm1d):
            nn.init.constant_(self.bn.weight, output.scale_init)
        else:
            nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        x_BCTHW = _with_all_axes(x)
        x_BTHWC = x_BCTHW.movedim(1, -1)
        y_RV = self._as_rows(self._attend(x_BTHWC), x_BTHWC.shape)
        residual_RC: Tensor = self.bn(self.out(y_RV))  # rows, because batch norm copies any other view of tokens
        if x_BTHWC.is_contiguous() and residual_RC.dtype == x.dtype:
            residual_RC += x_BTHWC.view(residual_RC.shape)
            return residual_RC.view(x_BTHWC.shape).movedim(-1, 1).view(x.shape)
        return x + residual_RC.view(x_BTHWC.shape).movedim(-1, 1).reshape(x.shape)

    def attention(self, x: Tensor) -> Tensor:
        """The weights f(x_i, x_j) / C(x) by definition: [B, C, T, H, W] -> [groups of positions, N, M]."""
        theta, phi, _ = self._tokens(_with_all_axes(x))
        weights_GNM: Tensor = self.pairwise.weights(theta, phi)
        return weights_GNM

    def attention_at(self, x: Tensor, positions: Sequence[tuple[int, int, int]]) -> Tensor:
        """The rows of ``attention`` for some query positions, in place: [1, C, T, H, W], P × (t, y, x) -> [P, T, h, w].

        Only these rows are computed, so a clip may be of any size. h×w is the grid of the keys, H×W where nothing is
        subsampled. Keys that a position does not attend to (of other frames, places or groups) have weight 0.

        Raises:
            IndexError: a position outside the T×H×W grid.
        """
        x_BCTHW = _with_all_axes(x)
        if len(x_BCTHW) != 1:
            raise ValueError(f"attention is looked at clip by clip, not for a batch of {len(x_BCTHW)}")
        t, *query_grid = x_BCTHW.shape[2:]
        key_grid = query_grid if self.subsample == "none" else [side // min(2, side) for side in query_grid]
        query_GN, key_GM = self._numbers(t, *query_grid), self._numbers(t, *key_grid)
        theta_GND, phi_GMD, _ = self._tokens(x_BCTHW)
        rows_PM = x.new_zeros(len(positions), t * math.prod(key_grid))
        for row_M, (frame, y, column) in zip(rows_PM, positions, strict=True):
            if not (0 <= frame < t and 0 <= y < query_grid[0] and 0 <= column < query_grid[1]):
                raise IndexError(f"no position {(frame, y, column)} in a grid of {t}×{query_grid[0]}×{query_grid[1]}")
            number = (frame * query_grid[0] + y) * query_grid[1] + column
            group, place = (query_GN == number).nonzero()[0].tolist()
            weights_11M = self.pairwise.weights(theta_GND[group, None, place, None], phi_GMD[group, None])
            row_M[key_GM[group].to(x.device)] = weights_11M[0, 0]
        return rows_PM.view(len(positions), t, *key_grid)

    def _numbers(self, t: int, height: int, width: int) -> Tensor:
        """Where the positions of a clip are among the tokens: numbers in the order of the clip, [groups, tokens]."""
        return self._group(torch.arange(t * height * width).view(1, t, height, width, 1))[..., 0]

    def _attend(self, x_BTHWC: Tensor) -> Tensor:
        """y of equation 1. [B, T, H, W, C] -> tokens [G, N, V] of G groups of positions."""
        if self.subsample == "last":
            y_GNV: Tensor = self.pairwise(*self._tokens(x_BTHWC.movedim(-1, 1)))
            return y_GNV
        x_GNC = self._group(x_BTHWC)
        keys_GMC = self._group(self._pooled(x_BTHWC)) if self.subsample == "first" else x_GNC
        return self.pairwise.attend(x_GNC, keys_GMC, self.g(keys_GMC))

    def _tokens(self, x_BCTHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, T, H, W] -> θ [G, N, D], φ [G, M, D], g [G, M, V] of G groups of positions."""
        x_BTHWC = x_BCTHW.movedim(1, -1)
        keys = self._pooled(x_BTHWC) if self.subsample == "first" else x_BTHWC
        phi, g = self.pairwise.phi(keys), self.g(keys)
        if self.subsample == "last":
            phi, g = self._pooled(phi), self._pooled(g)
        return self._group(self.pairwise.theta(x_BTHWC)), self._group(phi), self._group(g)

    def _pooled(self, x_BTHWC: Tensor) -> Tensor:
        # Any size works: an axis of one position is not pooled; an odd last row is dropped (floor), as in Caffe2.
        window = (min(2, x_BTHWC.shape[2]), min(2, x_BTHWC.shape[3]))
        pooled_LHWC = F.max_pool2d(x_BTHWC.flatten(0, 1).movedim(-1, 1), window, window).movedim(1, -1)
        return pooled_LHWC.view(*x_BTHWC.shape[:2], *pooled_LHWC.shape[1:])

    def _group(self, x_BTHWC: Tensor) -> Tensor:
        """[B, T, H, W, C] -> tokens [G, N, C]: G = B·groups for spacetime, B·T for space, B·groups·H·W for time."""
        b, t, *rest = x_BTHWC.shape
        if t % self.groups:
            raise ValueError(f"{t} frames at a non-local block cannot be cut into {self.groups} groups of equal length")
        x_RTHWC = x_BTHWC.reshape(b * self.groups, t // self.groups, *rest)  # R runs of frames
        if self.axes == "spacetime":
            return x_RTHWC.flatten(1, 3)
        if self.axes == "space":
            return x_RTHWC.flatten(0, 1).flatten(1, 2)
        return x_RTHWC.permute(0, 2, 3, 1, 4).flatten(0, 2)

    def _as_rows(self, y_GNV: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Tokens [G, N, V] -> [B·T·H·W, V] in the order of the positions: the inverse of ``_group``."""
        b, t, h, w, _ = shape
        if self.axes == "time":
            y_GNV = y_GNV.view(b * self.groups, h, w, t // self.groups, -1).permute(0, 3, 1, 2, 4)
        return y_GNV.reshape(b * t * h * w, -1)


def _with_all_axes(x: Tensor) -> Tensor:
    """[B, C, T], [B, C, H, W] or [B, C, T, H, W] -> [B, C, T, H, W]."""
    if x.dim() == 3:
        return x[..., None, None]
    if x.dim() == 4:
        return x[:, :, None]
    if x.dim() != 5:
        raise ValueError(f"a non-local block takes [B, C, T], [B, C, H, W] or [B, C, T, H, W], not {tuple(x.shape)}")
    return x
