"""Views: which frames, which box of them, at which size, mirrored or not. Drawn first as plain data, decoded later.

Axes: B batch, T time, H height, W width, C channels in the order red, green, blue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nlnet.data.crops import Crops, source_box
from nlnet.data.decoders import VideoInfo
from nlnet.data.placement import Placement, RandomClip
from nlnet.data.sampling import resized_shape
from nlnet.errors import ConfigError

TrainPlacement = Callable[[VideoInfo, int, int, np.random.Generator], tuple[int, ...]]  # video, frames, stride, draws


@dataclass(frozen=True)
class View:
    """What to read of one video."""

    indices: tuple[int, ...]  # frames, in display order; repeats are allowed
    box: tuple[int, int, int, int]  # top, left, height, width in pixels of the source
    size: tuple[int, int]  # height, width of the output
    flip: bool = False  # mirror left and right


class TrainView:
    """A random view for training: VideoInfo, generator -> View of [frames, crop, crop].

    Scale jitter as in the paper (section 4.1): the shorter side becomes an integer drawn uniformly from
    ``short_side`` (both ends included), a random ``crop`` x ``crop`` square of that is taken and mirrored with
    probability ``flip``. The square is expressed in whole pixels of the source, so that a decoder crops before it
    scales: its edge is crop * short side of the source / drawn short side, rounded.

    Args:
        frames, stride: of the clip.
        placement: where the clip lies, of ``nlnet.data.placement``; None for ``RandomClip``.
        short_side: smallest, largest.
        inverse_short_side: draws 1 / short side uniformly instead, which favours the smaller ones; rounded
            (slowfast/datasets/transform.py, option INV_UNIFORM_SAMPLE of its Charades recipes, there for 256 to 340).
        crop: edge of the square.
        flip: probability.
    """

    def __init__(
        self,
        *,
        frames: int,
        stride: int,
        placement: TrainPlacement | None = None,
        short_side: Sequence[int] = (256, 320),
        inverse_short_side: bool = False,
        crop: int = 224,
        flip: float = 0.5,
    ) -> None:
        if len(short_side) != 2 or short_side[0] > short_side[1]:
            raise ConfigError(
                f"data.augment.short_side must be [smallest, largest], for example [256, 320], not {short_side}"
            )
        if not 0 <= flip <= 1:
            raise ConfigError(f"data.augment.flip is a probability between 0 and 1, not {flip}")
        _check_clip(frames, stride)
        _check_crop(crop, short_side[0])
        self.frames = frames
        self.stride = stride
        self.placement = placement or RandomClip()
        self.short_side = (int(short_side[0]), int(short_side[1]))
        self.inverse_short_side = inverse_short_side
        self.crop = crop
        self.flip = flip

    def __call__(self, info: VideoInfo, generator: np.random.Generator) -> View:
        """Draw a view of the video that ``info`` describes."""
        indices = self.placement(info, self.frames, self.stride, generator)
        short_side = self._short_side(generator)
        height, width = _source_crop(info, short_side, self.crop)
        top = int(generator.integers(info.height - height, endpoint=True))
        left = int(generator.integers(info.width - width, endpoint=True))
        flip = bool(generator.random() < self.flip)
        return View(indices, (top, left, height, width), (self.crop, self.crop), flip)

    def _short_side(self, generator: np.random.Generator) -> int:
        smallest, largest = self.short_side
        if self.inverse_short_side:
            return round(1 / generator.uniform(1 / largest, 1 / smallest))
        return int(generator.integers(smallest, largest, endpoint=True))


class EvalViews:
    """A protocol of tests: the fixed views of each video, VideoInfo -> clips * crops views, clip by clip, and how their
    scores become one.

    Args:
        frames, stride: of a clip.
        clips: how many of them.
        placement: where they lie, of ``nlnet.data.placement``.
        crops: which parts of a frame are seen, of ``nlnet.data.crops``. The boxes of the views are in whole pixels of
            the source, as in training: ``source_box`` says what that costs.
        pooling: how the network scores a view, of ``nlnet.models.pooling``; None for the network's own output.
        ensemble: how the scores of the views become the video's, of ``nlnet.models.ensemble``; None for their mean.
        source: whose protocol it is, in front of its name; empty for nlnet's own.
        precision: fp32, bf16 or fp16, in which the network is run.
    """

    def __init__(
        self,
        *,
        frames: int,
        stride: int,
        clips: int,
        placement: Placement,
        crops: Crops,
        pooling: Any = None,
        ensemble: Any = None,
        source: str = "",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    ) -> None:
        _check_clip(frames, stride)
        if clips < 1:
            raise ConfigError(f"data.views.clips must be at least 1, not {clips}")
        self.frames = frames
        self.stride = stride
        self.clips = clips
        self.placement = placement
        self.crops = crops
        self.pooling = pooling
        self.ensemble = ensemble
        self.source = source
        self.precision = precision

    @property
    def num_views(self) -> int:
        """Views of each video."""
        return self.clips * self.crops.num_crops

    @property
    def name(self) -> str:
        """Clips x crops, for example 10x3 or authors_10x3; 10xfull for whole frames."""
        return "_".join(filter(None, (self.source, f"{self.clips}x{self.crops.label}")))

    def __call__(self, info: VideoInfo) -> list[View]:
        """All views of the video that ``info`` describes."""
        source = (info.height, info.width)
        scaled = self.crops.scaled(*source)
        boxes = [(source_box(box, scaled, source), (box[2], box[3]), flip) for box, flip in self.crops(*scaled)]
        clips = self.placement(info, self.clips, self.frames, self.stride)
        return [View(indices, box, size, flip) for indices in clips for box, size, flip in boxes]


class Normalize:
    """Bytes to numbers, on the device of the clips: uint8 [B, T, H, W, C] -> float32 [B, C, T, H, W].

    (value / 255 - mean) / std per channel, in the order red, green, blue.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ConfigError(f"data.normalize needs three means and three positive deviations, not {mean} and {std}")
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)

    def __call__(self, clips: Tensor) -> Tensor:
        """Normalised copy of ``clips``, its channels last in memory as theirs: convolutions are fastest that way."""
        if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
            raise ValueError(f"expected uint8 [B, T, H, W, 3], not {clips.dtype} {list(clips.shape)}")
        clips_BCTHW = clips.permute(0, 4, 1, 2, 3).to(torch.float32)
        mean = torch.tensor(self.mean, device=clips.device).view(1, 3, 1, 1, 1)
        std = torch.tensor(self.std, device=clips.device).view(1, 3, 1, 1, 1)
        return clips_BCTHW.sub_(255 * mean).div_(255 * std)


def _source_crop(info: VideoInfo, short_side: int, crop: int) -> tuple[int, int]:
    """Height and width, in pixels of the source, of a ``crop`` x ``crop`` square of the frame at ``short_side``.

    Both are positive and fit, as crop <= short_side.
    """
    height, width = resized_shape(info.height, info.width, short_side)
    return max(1, round(crop * info.height / height)), max(1, round(crop * info.width / width))


def _check_clip(frames: int, stride: int) -> None:
    if frames < 1 or stride < 1:
        raise ConfigError(f"data.clip: frames and stride must be at least 1, not {frames} and {stride}")


def _check_crop(crop: int, short_side: int) -> None:
    if not 1 <= crop <= short_side:
        raise ConfigError(
            f"crop={crop} must lie between 1 and the short side {short_side}: lower crop or raise short_side"
        )
