"""Changes of a clip's pixels: colours, RandAugment, erased boxes. Drawn first as plain calls, made later.

A rule draws, from the sample's own generator, a few calls of ``torchvision.transforms.v2.functional``; each is made on
all frames of a clip at once, so that all have the same. They can be made where the clip is decoded or on the device
that trains: the draws are the same. Nothing reads or moves a global random state.

Axes: T time, C channels (red, green, blue), H height, W width; uint8 throughout.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from nlnet.errors import ConfigError

Change = Callable[[Tensor], Tensor]  # uint8 [T, C, H, W] -> the same; one that travels between processes
Size = tuple[int, int]  # height, width


class Pixels(Protocol):
    """A rule: the size of a clip's frames, the sample's generator -> the changes of this clip, in order."""

    def __call__(self, size: Size, generator: np.random.Generator) -> list[Change]: ...


def changed(clip: Tensor, changes: Sequence[Change]) -> Tensor:
    """A clip with these changes made: uint8 [T, H, W, C] -> uint8 [T, H, W, C], contiguous; itself without any."""
    if not changes:
        return clip
    clip_TCHW = clip.permute(0, 3, 1, 2)
    for change in changes:
        clip_TCHW = change(clip_TCHW)
    return clip_TCHW.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class NoChanges:
    """Leaves all pixels as they are."""

    def __call__(self, size: Size, generator: np.random.Generator) -> list[Change]:
        return []


@dataclass(frozen=True)
class InTurn:
    """Several rules, one after the other; their names are for the config."""

    rules: Mapping[str, Pixels]

    def __call__(self, size: Size, generator: np.random.Generator) -> list[Change]:
        return [change for rule in self.rules.values() for change in rule(size, generator)]


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue by random factors, in random order (torchvision's ``ColorJitter``).

    Args:
        brightness, contrast, saturation: x draws a factor uniformly from max(0, 1 - x) to 1 + x; 0 leaves it.
        hue: x draws a shift uniformly from -x to x, in turns of the colour wheel, up to 0.5; 0 leaves it.
        probability: of a clip to be changed.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ConfigError(f"data.pixels.{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(f"data.pixels.hue must be between 0 and 0.5, not {self.hue}")
        _check_probability(self.probability)

    def __call__(self, size: Size, generator: np.random.Generator) -> list[Change]:
        if generator.random() >= self.probability:
            return []
        changes: list[Change] = []
        for name, width in (
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
        ):
            if width > 0:
                factor = float(generator.uniform(max(0.0, 1 - width), 1 + width))
                changes.append(partial(getattr(F, f"adjust_{name}"), **{f"{name}_factor": factor}))
        if self.hue > 0:
            changes.append(partial(F.adjust_hue, hue_factor=float(generator.uniform(-self.hue, self.hue))))
        return [changes[place] for place in generator.permutation(len(changes))]


# An operation of RandAugment: from its strength (0 none to 1 full), its sign and the size of the frames, the change.
_Operation = Callable[[float, float, Size], Change | None]


def _affine(*, shear: tuple[float, float] = (0.0, 0.0), translate: tuple[int, int] = (0, 0)) -> Change:
    """A shear from the corner of the frame (as slopes), or a shift in pixels; along x, along y."""
    degrees = [math.degrees(math.atan(slope)) for slope in shear]
    centre = [0.0, 0.0] if any(shear) else None
    return partial(F.affine, angle=0.0, translate=list(translate), scale=1.0, shear=degrees, center=centre)


def _colour(adjust: Callable[..., Tensor], factor: str) -> _Operation:
    return lambda strength, sign, size: partial(adjust, **{factor: 1 + sign * 0.9 * strength})


# The operations of arXiv 1909.13719 with the ranges of torchvision.transforms.v2.RandAugment: colours by at most 0.9,
# 8 to 4 bits, shears up to 0.3, shifts up to 150 / 331 of the frame, 30 degrees.
RAND_AUGMENT: dict[str, _Operation] = {
    "Identity": lambda strength, sign, size: None,
    "ShearX": lambda strength, sign, size: _affine(shear=(sign * 0.3 * strength, 0.0)),
    "ShearY": lambda strength, sign, size: _affine(shear=(0.0, sign * 0.3 * strength)),
    "TranslateX": lambda strength, sign, size: _affine(translate=(int(sign * 150 / 331 * size[1] * strength), 0)),
    "TranslateY": lambda strength, sign, size: _affine(translate=(0, int(sign * 150 / 331 * size[0] * strength))),
    "Rotate": lambda strength, sign, size: partial(F.rotate, angle=sign * 30 * strength),
    "Brightness": _colour(F.adjust_brightness, "brightness_factor"),
    "Color": _colour(F.adjust_saturation, "saturation_factor"),
    "Contrast": _colour(F.adjust_contrast, "contrast_factor"),
    "Sharpness": _colour(F.adjust_sharpness, "sharpness_factor"),
    "Posterize": lambda strength, sign, size: partial(F.posterize, bits=8 - round(4 * strength)),
    "Solarize": lambda strength, sign, size: partial(F.solarize, threshold=255 * (1 - strength)),
    "AutoContrast": lambda strength, sign, size: F.autocontrast,
    "Equalize": lambda strength, sign, size: F.equalize,
}
_MOVING = (F.affine, F.rotate)  # the operations that an interpolation and a filling colour matter to


@dataclass(frozen=True)
class RandAugment:
    """A few operations drawn from one table, each with the same strength (arXiv 1909.13719).

    Operations are drawn uniformly, with repeats. Those of a direction go to either side with the same chance.

    Args:
        num_ops: operations of a clip.
        magnitude: 0 (nothing) to ``num_magnitude_bins`` - 1 (the end of each range).
        num_magnitude_bins: steps that the ranges are cut into.
        interpolation: of the operations that move pixels.
        fill: grey level of what they move in from outside.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    fill: int = 0

    def __post_init__(self) -> None:
        if self.num_ops < 0:
            raise ConfigError(f"data.pixels.num_ops must be at least 0, not {self.num_ops}")
        if not 0 <= self.magnitude < self.num_magnitude_bins or self.num_magnitude_bins < 2:
            raise ConfigError(
                f"data.pixels.magnitude must lie between 0 and num_magnitude_bins - 1 = {self.num_magnitude_bins - 1}, "
                f"not {self.magnitude}"
            )
        if self.interpolation not in ("nearest", "bilinear"):
            raise ConfigError(f"data.pixels.interpolation must be nearest or bilinear, not {self.interpolation}")
        _check_fill(self.fill)

    def __call__(self, size: Size, generator: np.random.Generator) -> list[Change]:
        names = list(RAND_AUGMENT)
        drawn = [(names[generator.integers(len(names))], generator.random() < 0.5) for _ in range(self.num_ops)]
        changes = (self.change(name, -1.0 if negative else 1.0, size) for name, negative in drawn)
        return [change for change in changes if change is not None]

    def change(self, name: str, sign: float, size: Size) -> Change | None:
        """One operation of the table at this rule's magnitude; None where it leaves the clip as it is."""
        change = RAND_AUGMENT[name](self.magnitude / (self.num_magnitude_bins - 1), sign, size)
        if isinstance(change, partial) and change.func in _MOVING:
            return partial(change, interpolation=F.InterpolationMode(self.interpolation), fill=[float(self.fill)] * 3)
        return change


@dataclass(frozen=True)
class Erase:
    """A box of all frames overwritten: top, left, height, width, with values uint8 [C, 1, 1] or [C, height, width]."""

    box: tuple[int, int, int, int]
    values: Tensor

    def __call__(self, clip_TCHW: Tensor) -> Tensor:
        erased: Tensor = F.erase(clip_TCHW, *self.box, self.values.to(clip_TCHW.device))
        return erased


@dataclass(frozen=True)
class RandomErasing:
    """A random box, the same in all frames, is overwritten (arXiv 1708.04896; torchvision's ``RandomErasing``).

    Args:
        probability: of a clip to have one.
        scale: smallest and largest share of the frame's area.
        ratio: smallest and largest height / width, drawn uniformly on a logarithmic scale.
        fill: a grey level, or ``noise`` for a random colour of each pixel. 115 becomes 0 once it is normalised.
    """

    probability: float = 0.25
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    fill: int | Literal["noise"] = 115

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"data.pixels.scale must be [smallest, largest] share, up to 1, not {list(self.scale)}")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"data.pixels.ratio must be [smallest, largest], above 0, not {list(self.ratio)}")
        if self.fill != "noise":
            _check_fill(self.fill)

    def __call__(self, size: Size, generator: np.random.Generator) -> list[Change]:
        if generator.random() >= self.probability:
            return []
        for _ in range(10):  # a box that sticks out is drawn anew, as there
            area = size[0] * size[1] * generator.uniform(self.scale[0], self.scale[1])
            ratio = math.exp(generator.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < size[0] and width < size[1]:
                break
        else:
            return []
        top = int(generator.integers(size[0] - height, endpoint=True))
        left = int(generator.integers(size[1] - width, endpoint=True))
        if self.fill == "noise":
            values = torch.from_numpy(generator.integers(256, size=(3, height, width), dtype=np.uint8))
        else:
            values = torch.full((3, 1, 1), self.fill, dtype=torch.uint8)
        return [Erase((top, left, height, width), values)]


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ConfigError(f"data.pixels.probability must be between 0 and 1, not {probability}")


def _check_fill(fill: int) -> None:
    if not isinstance(fill, int) or not 0 <= fill <= 255:
        raise ConfigError(f"data.pixels.fill is a grey level from 0 to 255, not {fill}")
