"""The second family of embedded videos: how far apart in time or in space two objects are that the class relates.

There are two classes: two objects share their hue, or they do not. The objects are small and still, each is seen in two
frames, and every video has a distance in time and one in space:

- time 0: both are seen in the same two frames; time d: the second comes d frames after the last frame of the first;
- space d: their centres are d pixels apart, in any direction.

One arm of the distances varies time at the smallest distance in space, the other varies space at time 0. They stand in
the path of each video, ``val/time_05_space_07/00012.mp4``, so that an evaluation can be read by distance. Validation
videos are spread evenly over the distances. In training, short ones are more frequent than long ones (each is the
smaller of two that are drawn evenly): a network that can tell few of its videos learns nothing from any.

Nothing else depends on the distance, and one object alone tells nothing of the class, as in the first family. There are
no distractors and the background is almost the same everywhere: what makes a video hard is its distance alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from nlnet.data.synthetic import (
    HUES,
    SHAPES,
    Scene,
    Thing,
    render,
    write_set,
)
from nlnet.errors import ConfigError

CLASSES = ("same_hue", "other_hue")
SEEN = 2  # frames that show an object
RADIUS = 3.0  # pixels
_FORM = 1  # to be raised when the same parameters draw other videos than before


@dataclass(frozen=True)
class Recipe:
    """The parameters of the data set; equal recipes give equal videos. Distances in frames and in pixels."""

    num_train: int
    num_val: int
    frames: int
    size: int
    times: Sequence[int]
    spaces: Sequence[int]
    seed: int
    family: str = "distance"
    form: int = _FORM

    def __post_init__(self) -> None:
        if not self.times or not self.spaces or min(self.times) < 0:
            raise ConfigError(f"times={self.times}, spaces={self.spaces}: each needs a distance, 0 or more")
        if (longest := max(self.times)) > (limit := self.frames - 2 * SEEN + 1):
            raise ConfigError(
                f"times={self.times}: {longest} does not fit into frames={self.frames}; take up to {limit}"
            )
        if min(self.spaces) <= 2 * RADIUS:
            raise ConfigError(f"spaces={self.spaces}: nearer than {2 * RADIUS + 1:.0f} pixels the objects overlap")
        if (widest := max(self.spaces)) > (room := int(self._room * 1.2)):
            raise ConfigError(f"spaces={self.spaces}: size={self.size} has room for {room} at most, not {widest}")
        if self.size % 2:
            raise ConfigError(f"size={self.size}: H.264 wants an even size")
        if min(self.num_train, self.num_val) < (least := len(CLASSES) * len(self.pairs)):
            raise ConfigError(
                f"num_train={self.num_train}, num_val={self.num_val}: take at least {least}, a video of each class and "
                "distance"
            )

    @property
    def _room(self) -> float:
        """Pixels between the outermost places of a centre."""
        return self.size - 1 - 2 * RADIUS

    @property
    def arms(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(time, space) along each axis, the smallest distance first."""
        times, spaces = sorted(self.times), sorted(self.spaces)
        return [(time, spaces[0]) for time in times], [(0, space) for space in spaces]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All (time, space), each once."""
        return list(dict.fromkeys([*self.arms[0], *self.arms[1]]))


def prepare(
    root: str,
    *,
    num_train: int = 2816,
    num_val: int = 1100,
    frames: int = 8,
    size: int = 24,
    times: Sequence[int] = (0, 1, 2, 3, 4, 5),
    spaces: Sequence[int] = (7, 9, 11, 13, 15, 18),
    seed: int = 0,
) -> None:
    """Write the data set, in the form and with the promises of ``nlnet.data.synthetic.prepare``."""
    recipe = Recipe(num_train, num_val, frames, size, list(times), list(spaces), seed)

    def pair_of(split: str, index: int) -> tuple[int, int]:
        number = index // len(CLASSES)
        if split == "val":
            return recipe.pairs[number % len(recipe.pairs)]
        arm = recipe.arms[number % 2]
        nearer = np.random.default_rng([seed, number]).integers(len(arm), size=2).min()
        return arm[int(nearer)]

    def draw(split: str, index: int, label: int, generator: np.random.Generator) -> NDArray[np.uint8]:
        time, space = pair_of(split, index)
        scene = draw_scene(label, generator, frames=frames, size=size, time=time, space=space)
        return render(scene, generator, frames=frames, size=size)

    def name(split: str, index: int) -> str:
        time, space = pair_of(split, index)
        return f"time_{time:02d}_space_{space:02d}/{index:05d}.mp4"

    write_set(root, asdict(recipe), draw, name=name, classes=CLASSES)


def draw_scene(label: int, generator: np.random.Generator, *, frames: int, size: int, time: int, space: float) -> Scene:
    """What a video of a class shows, with its objects at these distances. Only their hues depend on the label.

    Each hue is equally frequent as that of either object in both classes: no object alone tells the class.
    """
    first = int(generator.integers(len(HUES)))
    second = first if label == 0 else (first + 1) % len(HUES)
    here, there = _draw_centres(generator, size=size, space=space)
    later = SEEN - 1 + time if time else 0
    start = int(generator.integers(frames - SEEN - later + 1))
    return Scene(
        _object(first, here, generator, range(start, start + SEEN)),
        _object(second, there, generator, range(start + later, start + later + SEEN)),
        (),
        generator.uniform(60, 70),
    )


def _draw_centres(
    generator: np.random.Generator, *, size: int, space: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two places (y, x) at this distance, both at least a radius inside: directions that do not fit are drawn again."""
    room = size - 1 - 2 * RADIUS
    while True:
        angle = generator.uniform(0, 2 * np.pi)
        step_y, step_x = float(space * np.sin(angle)), float(space * np.cos(angle))
        if max(abs(step_y), abs(step_x)) <= room:
            break
    y, x = (
        float(generator.uniform(RADIUS + max(0.0, -step), RADIUS + room - max(0.0, step))) for step in (step_y, step_x)
    )
    return (y, x), (y + step_y, x + step_x)


def _object(hue: int, centre: tuple[float, float], generator: np.random.Generator, seen: range) -> Thing:
    shape = SHAPES[generator.integers(len(SHAPES))]
    red, green, blue = HUES[hue]
    return Thing(shape, (red, green, blue), RADIUS, centre, (0.0, 0.0), seen)
