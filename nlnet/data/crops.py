"""Crops of a test: how a frame is scaled, and which boxes of the scaled frame a network sees. One class for each rule.

A rule is called with the scaled frame's height and width -> crops, whose boxes are in its pixels, as the rules of the
implementations are. A decoder crops before it scales, so ``source_box`` translates. L is the length of the longer side
of the scaled frame, c the edge of a crop. Sources are named by file: "the authors" are video-nonlocal-net.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from nlnet.data.sampling import resized_shape
from nlnet.errors import ConfigError

Box = tuple[int, int, int, int]  # top, left, height, width


class Crop(NamedTuple):
    """A box, mirrored left and right or not."""

    box: Box
    flip: bool = False


def source_box(box: Box, scaled: tuple[int, int], source: tuple[int, int]) -> Box:
    """A box of the scaled frame -> the box of the source that shows the same, in whole pixels.

    Its edges are rounded. Its place is that of the box between the two ends of the frame: a crop at an end stays
    there, one inside is off by less than a pixel of the source. Where the source has the scaled size already, which is
    how data sets are often stored, the box is the same.
    """
    (top, height), (left, width) = (
        _source_edge(start, length, whole, of)
        for start, length, whole, of in zip(box[:2], box[2:], scaled, source, strict=True)
    )
    return top, left, height, width


def _source_edge(start: int, length: int, whole: int, of: int) -> tuple[int, int]:
    """Start and length within ``whole`` pixels -> within ``of`` pixels."""
    scaled_length = max(1, _rounded(length * of, whole))
    return _rounded(start * (of - scaled_length), whole - length) if whole > length else 0, scaled_length


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, a half upwards."""
    return (2 * numerator + denominator) // (2 * denominator)


class Crops(ABC):
    """A rule."""

    @property
    @abstractmethod
    def label(self) -> str:
        """For the name of an evaluation: how many crops, or ``full``."""

    @property
    def num_crops(self) -> int:
        """Crops of each clip."""
        return int(self.label) if self.label.isdigit() else 1

    @abstractmethod
    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a source frame once it is scaled."""

    @abstractmethod
    def __call__(self, height: int, width: int) -> list[Crop]:
        """The crops of a scaled frame, in order."""


@dataclass(frozen=True)
class WholeFrame(Crops):
    """The whole frame with its shorter side at ``short_side``, for a fully-convolutional test (paper, section 4.1)."""

    short_side: int

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise ConfigError(f"data.views.crops.short_side must be at least 1, not {self.short_side}")

    @property
    def label(self) -> str:
        return "full"

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        return resized_shape(height, width, self.short_side)

    def __call__(self, height: int, width: int) -> list[Crop]:
        return [Crop((0, 0, height, width))]


@dataclass(frozen=True)
class Squares(Crops):
    """Square crops of ``size`` x ``size`` of a frame whose shorter side is scaled to ``short_side``."""

    short_side: int
    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.short_side:
            raise ConfigError(
                f"data.views.crops.size={self.size} must lie between 1 and short_side={self.short_side}: lower it, or "
                "raise short_side"
            )

    @property
    def label(self) -> str:
        return "3"

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        return resized_shape(height, width, self.short_side)

    def at(self, *corners: tuple[int, int]) -> list[Crop]:
        """Crops with these top left corners."""
        return [Crop((top, left, self.size, self.size)) for top, left in corners]


@dataclass(frozen=True)
class Centre(Squares):
    """The central square: floor((height - c) / 2), floor((width - c) / 2)."""

    @property
    def label(self) -> str:
        return "1"

    def __call__(self, height: int, width: int) -> list[Crop]:
        return self.at(((height - self.size) // 2, (width - self.size) // 2))


@dataclass(frozen=True)
class Three(Squares):
    """nlnet's own: along the longer side at 0, floor((L - c) / 2) and L - c; central along the shorter one."""

    def __call__(self, height: int, width: int) -> list[Crop]:
        top, left = height - self.size, width - self.size
        if height > width:
            return self.at((0, left // 2), (top // 2, left // 2), (top, left // 2))
        return self.at((top // 2, 0), (top // 2, left // 2), (top // 2, left))


@dataclass(frozen=True)
class AuthorsThree(Squares):
    """At 0, 1 and 2 times floor((L - c) / 2): where L - c is odd, the last crop is a pixel short of the end.

    Along the height wherever that leaves room, else along the width (ClipTransformFlex of
    caffe2_customized_ops/video/customized_video_io.cc).
    """

    def __call__(self, height: int, width: int) -> list[Crop]:
        top, left = (height - self.size) // 2, (width - self.size) // 2
        if top > 0:
            return self.at(*((top * position, left) for position in range(3)))
        return self.at(*((top, left * position) for position in range(3)))


@dataclass(frozen=True)
class SlowFastThree(Squares):
    """As ``Three``, but the central crop is at ceil((L - c) / 2) (slowfast/datasets/transform.py)."""

    def __call__(self, height: int, width: int) -> list[Crop]:
        free_height, free_width = height - self.size, width - self.size
        top, left = -(-free_height // 2), -(-free_width // 2)
        if height > width:
            return self.at((0, left), (top, left), (free_height, left))
        return self.at((top, 0), (top, left), (top, free_width))


@dataclass(frozen=True)
class MMAction2Three(Squares):
    """First, last and middle, in this order, at 0, 2 and 1 times floor((L - c) / 2); c must be the shorter side.

    (ThreeCrop of mmaction/datasets/transforms/processing.py.)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size != self.short_side:
            raise ConfigError(f"data.views.crops: size={self.size} must be short_side={self.short_side} for this rule")

    def __call__(self, height: int, width: int) -> list[Crop]:
        if height == self.size:
            step = (width - self.size) // 2
            return self.at((0, 0), (0, 2 * step), (0, step))
        step = (height - self.size) // 2
        return self.at((0, 0), (2 * step, 0), (step, 0))


@dataclass(frozen=True)
class TSMThree(Squares):
    """Left, right and centre, in this order, also of upright videos: steps of floor((length - c) / 4), 0, 4 and 2 of
    them along the width, 2 along the height (GroupFullResSample of ops/transforms.py)."""

    def __call__(self, height: int, width: int) -> list[Crop]:
        down, right = (height - self.size) // 4, (width - self.size) // 4
        return self.at((2 * down, 0), (2 * down, 4 * right), (2 * down, 2 * right))


@dataclass(frozen=True)
class Ten(Squares):
    """Four corners and the centre, each followed by its mirror image.

    Steps of floor((length - c) / 4), as ``TSMThree`` (TenCrop of mmaction/datasets/transforms/processing.py).
    """

    @property
    def label(self) -> str:
        return "10"

    def __call__(self, height: int, width: int) -> list[Crop]:
        down, right = (height - self.size) // 4, (width - self.size) // 4
        places = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
        crops = self.at(*((row * down, column * right) for row, column in places))
        return [crop._replace(flip=flip) for crop in crops for flip in (False, True)]


@dataclass(frozen=True)
class GluonCVThree(Squares):
    """Frames forced to ``short_side`` x ``width``, whatever their shape; crops at floor(j (L - c) / 2).

    (VideoClsDataset of gluoncv/torch/data/video_cls/dataset_classification.py, without KEEP_ASPECT_RATIO.)
    """

    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < self.size:
            raise ConfigError(f"data.views.crops.width={self.width} must be at least size={self.size}")

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        return self.short_side, self.width

    def __call__(self, height: int, width: int) -> list[Crop]:
        return self.at(*((0, position * (width - self.size) // 2) for position in range(3)))


@dataclass(frozen=True)
class Flipped(Crops):
    """The crops of another rule, then all their mirror images in the same order: the authors' six positions."""

    crops: Crops

    @property
    def label(self) -> str:
        return str(2 * self.crops.num_crops)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        return self.crops.scaled(height, width)

    def __call__(self, height: int, width: int) -> list[Crop]:
        crops = self.crops(height, width)
        return crops + [crop._replace(flip=not crop.flip) for crop in crops]
