"""The non-local block (paper, equations 1 and 6, figure 2): a residual that lets every position attend to every other.

Axes: B clips, C channels, T frames, H×W positions of a frame; N query tokens, M key tokens, V channels of g.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.pairwise import EmbeddedGaussian, Pairwise

Axes = Literal["spacetime", "space", "time"]


class NonLocalBlock(nn.Module):
    """z = x + BN(W_z y) with y of equation 1. [B, C, T, H, W] (or [B, C, H, W], [B, C, T]) -> the same shape.

    Args:
        channels: C of the input.
        pairwise: makes the pairwise function from (channels, embedding channels); see ``nlnet.models.pairwise``.
        axes: which positions a position attends to: all of the clip (``spacetime``), those of its own frame
            (``space``) or the same place in all frames (``time``); paper, table 2d.
        subsample: keys and g are max-pooled 1×2×2 first, as in the authors' code (in front of the projections).
            Time-only attention has one key per frame and nothing to pool; the paper leaves this case open.
        embedding: channels of θ, φ and g; half of C by default (paper, section 3.3).
        scale_init: initial scale of the batch norm after W_z. At 0 the block starts as the identity.
        weight_std: standard deviation of the initial projections: 0.01 in the authors' code; None for He's
            initialisation, which the paper names (section 4.1).

    An inserted block changes nothing at the start, so it can be put into any trained network. The projections are
    linear maps of tokens: exactly the 1×1×1 convolutions of the paper, for inputs of one, two or three dimensions.
    """

    def __init__(
        self,
        channels: int,
        *,
        pairwise: Callable[[int, int], Pairwise] = EmbeddedGaussian,
        axes: Axes = "spacetime",
        subsample: bool = True,
        embedding: int | None = None,
        scale_init: float = 0.0,
        weight_std: float | None = 0.01,
    ) -> None:
        super().__init__()
        if axes not in ("spacetime", "space", "time"):
            raise ConfigError(f"axes of a non-local block must be spacetime, space or time, not '{axes}'")
        embedding = embedding or max(channels // 2, 1)
        self.axes = axes
        self.subsample = subsample and axes != "time"
        self.pairwise = pairwise(channels, embedding)
        self.g = nn.Linear(channels, embedding)
        self.out = nn.Linear(embedding, channels)
        self.bn = nn.BatchNorm1d(channels)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif not name.startswith("bn."):
                # He: the deviation of a linear map (or of the vector w_f) of this many inputs, in front of a ReLU.
                nn.init.normal_(parameter, std=weight_std or (2 / parameter.shape[-1]) ** 0.5)
        nn.init.constant_(self.bn.weight, scale_init)

    def forward(self, x: Tensor) -> Tensor:
        x_BCTHW = _with_all_axes(x)
        y_BNV = self.pairwise(*self._tokens(x_BCTHW))
        y_BCN = self._as_clip(self.out(y_BNV), x_BCTHW.shape)
        residual: Tensor = self.bn(y_BCN)
        return x + residual.view(x.shape)

    def attention(self, x: Tensor) -> Tensor:
        """The weights f(x_i, x_j) / C(x) by definition: [B, C, T, H, W] -> [groups of positions, N, M]."""
        queries, keys, _ = self._tokens(_with_all_axes(x))
        weights_GNM: Tensor = self.pairwise.weights(queries, keys)
        return weights_GNM

    def _tokens(self, x_BCTHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, T, H, W] -> queries [G, N, C], keys [G, M, C], g [G, M, V] of G groups of positions."""
        keys = x_BCTHW
        if self.subsample:
            # Any size works: an axis of one position is not pooled; an odd last row is dropped (floor), as in Caffe2.
            window = (1, min(2, x_BCTHW.shape[3]), min(2, x_BCTHW.shape[4]))
            keys = F.max_pool3d(x_BCTHW, window, window)
        keys_GMC = self._group(keys)
        return self._group(x_BCTHW), keys_GMC, self.g(keys_GMC)

    def _group(self, x_BCTHW: Tensor) -> Tensor:
        """[B, C, T, H, W] -> tokens [G, N, C]: G = B for spacetime, B·T for space, B·H·W for time."""
        if self.axes == "spacetime":
            return x_BCTHW.flatten(2).mT
        if self.axes == "space":
            return x_BCTHW.permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2)
        return x_BCTHW.permute(0, 3, 4, 2, 1).flatten(0, 2)

    def _as_clip(self, y_GNC: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Tokens [G, N, C] -> [B, C, T·H·W] in the input's order: the inverse of ``_group``."""
        b, c, t, h, w = shape
        if self.axes == "spacetime":
            y_BCN = y_GNC.mT
        elif self.axes == "space":
            y_BCN = y_GNC.view(b, t * h * w, c).mT
        else:
            y_BCN = y_GNC.view(b, h * w, t, c).permute(0, 3, 2, 1)
        return y_BCN.reshape(b, c, t * h * w)


def _with_all_axes(x: Tensor) -> Tensor:
    """[B, C, T], [B, C, H, W] or [B, C, T, H, W] -> [B, C, T, H, W]."""
    if x.dim() == 3:
        return x[..., None, None]
    if x.dim() == 4:
        return x[:, :, None]
    if x.dim() != 5:
        raise ValueError(f"a non-local block takes [B, C, T], [B, C, H, W] or [B, C, T, H, W], not {tuple(x.shape)}")
    return x
