"""Views: which frames, which box of them, at which size, mirrored or not. Drawn first as plain data, decoded later.

Axes: B batch, T time, H height, W width, C channels in the order red, green, blue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nlnet.data.decoders import VideoInfo
from nlnet.data.sampling import random_clip, resized_shape, uniform_clips
from nlnet.errors import ConfigError


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
    """

    def __init__(
        self, *, frames: int, stride: int, short_side: Sequence[int] = (256, 320), crop: int = 224, flip: float = 0.5
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
        self.short_side = (int(short_side[0]), int(short_side[1]))
        self.crop = crop
        self.flip = flip

    def __call__(self, info: VideoInfo, generator: np.random.Generator) -> View:
        """Draw a view of the video that ``info`` describes."""
        indices = random_clip(info.num_frames, frames=self.frames, stride=self.stride, generator=generator)
        short_side = int(generator.integers(self.short_side[0], self.short_side[1], endpoint=True))
        height, width = _source_crop(info, short_side, self.crop)
        top = int(generator.integers(info.height - height, endpoint=True))
        left = int(generator.integers(info.width - width, endpoint=True))
        flip = bool(generator.random() < self.flip)
        return View(indices, (top, left, height, width), (self.crop, self.crop), flip)


class EvalViews:
    """The fixed views of a test: VideoInfo -> clips * crops views, clip by clip.

    Clips are spread from the first to the last start that fits (``uniform_clips`` has the rule). The frame is scaled
    to ``short_side``, then, in whole pixels of the source as in training:

    - ``crops=1``: the central ``crop`` x ``crop`` square;
    - ``crops=3``: three such squares along the longer side (the width where both are equal): at its beginning, at
      floor((length - edge) / 2), and at its very end; along the shorter side all three are central. Where the video
      is square and crop equals short_side, all three are the same;
    - ``crop=None``: the whole frame, for a fully-convolutional test; ``crops`` must be 1.
    """

    def __init__(
        self, *, frames: int, stride: int, clips: int, crops: int, short_side: int = 256, crop: int | None = 256
    ) -> None:
        _check_clip(frames, stride)
        if clips < 1:
            raise ConfigError(f"data.views.clips must be at least 1, not {clips}")
        if crops not in (1, 3):
            raise ConfigError(f"data.views.crops must be 1 (centre) or 3 (left, centre, right), not {crops}")
        if crop is None and crops != 1:
            raise ConfigError("data.views.crop=null tests on the whole frame: set data.views.crops=1")
        if crop is not None:
            _check_crop(crop, short_side)
        self.frames = frames
        self.stride = stride
        self.clips = clips
        self.crops = crops
        self.short_side = short_side
        self.crop = crop

    @property
    def num_views(self) -> int:
        """Views of each video."""
        return self.clips * self.crops

    @property
    def name(self) -> str:
        """Clips x crops, for example 10x3; 10xfull for whole frames."""
        return f"{self.clips}x{'full' if self.crop is None else self.crops}"

    def __call__(self, info: VideoInfo) -> list[View]:
        """All views of the video that ``info`` describes."""
        clips = uniform_clips(info.num_frames, clips=self.clips, frames=self.frames, stride=self.stride)
        size = resized_shape(info.height, info.width, self.short_side) if self.crop is None else (self.crop, self.crop)
        return [View(indices, box, size) for indices in clips for box in self._boxes(info)]

    def _boxes(self, info: VideoInfo) -> list[tuple[int, int, int, int]]:
        if self.crop is None:
            return [(0, 0, info.height, info.width)]
        height, width = _source_crop(info, self.short_side, self.crop)
        free_height, free_width = info.height - height, info.width - width
        if self.crops == 1:
            return [(free_height // 2, free_width // 2, height, width)]
        if info.height > info.width:
            return [(top, free_width // 2, height, width) for top in (0, free_height // 2, free_height)]
        return [(free_height // 2, left, height, width) for left in (0, free_width // 2, free_width)]


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
