"""The embedded data set: small videos whose class is a relation between two objects far apart in space and in time.

The first object appears in one quadrant at the start, the second in the opposite quadrant at the end, and in the
``gap`` frames between them neither is there. The class says whether they share their hue and whether they share their
brightness (four classes, chance 25%). Either object alone looks the same in all classes, and no frame shows both. So a
network that averages what it sees in single frames, as C2D does, can learn nothing better than chance: its logits are a
sum of a part that sees the first object and a part that sees the second, and for either part the class is independent
of what it sees. The same holds for windows of up to ``gap`` + 1 frames, which is what small temporal kernels reach.
Shapes, sizes, places, motion, background and the grey distractors are independent of the class.

Axes: T frames, H×W pixels, 3 channels in the order red, green, blue.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from nlnet.errors import ConfigError, DataError

CLASSES = (
    "same_hue_same_brightness",
    "same_hue_other_brightness",
    "other_hue_same_brightness",
    "other_hue_other_brightness",
)
HUES = ((235, 60, 40), (40, 120, 255))  # red, blue
BRIGHTNESSES = (1.0, 0.45)  # bright, dark
SHAPES: tuple["Shape", ...] = ("disc", "square", "diamond")
FRAMES_PER_SECOND = 12
# Every frame a key frame at a fixed quantiser: prediction between frames would leave traces of one object in the frames
# of the other. QP 18 keeps the colours through the chroma subsampling; one thread writes the same bytes every time.
_ENCODER = {"qp": "18", "g": "1", "preset": "ultrafast", "threads": "1"}
_FORM = 1  # to be raised when the same parameters draw other videos than before
_COMPLETE, _STARTED = "complete.json", "started.json"

Shape = Literal["disc", "square", "diamond"]
Draw = Callable[[str, int, int, np.random.Generator], NDArray[np.uint8]]
Look = tuple[int, int]  # hue, brightness: indices of HUES and BRIGHTNESSES


@dataclass(frozen=True)
class Thing:
    """Something drawn: where its centre is in its first frame, how it moves, and when it is seen. Units are pixels."""

    shape: Shape
    colour: tuple[float, float, float]
    radius: float
    centre: tuple[float, float]  # y, x
    velocity: tuple[float, float]  # y, x per frame
    seen: range  # frames


@dataclass(frozen=True)
class Scene:
    """All that a video shows. Distractors lie under the two objects."""

    first: Thing
    second: Thing
    distractors: tuple[Thing, ...]
    background: float  # grey level


@dataclass(frozen=True)
class Recipe:
    """The parameters of the data set; equal recipes give equal videos."""

    num_train: int
    num_val: int
    frames: int
    size: int  # height and width
    gap: int  # frames between the two objects, with neither of them
    seed: int
    form: int = _FORM

    def __post_init__(self) -> None:
        visible, odd = divmod(self.frames - self.gap, 2)
        if self.gap < 0 or visible < 1 or odd:
            raise ConfigError(
                f"gap={self.gap} of frames={self.frames}: what is left of the frames is divided between the two "
                "objects; choose a gap from 0 to frames - 2, even when frames is even"
            )
        if self.size < 16 or self.size % 2:
            raise ConfigError(f"size={self.size}: H.264 wants an even size, the objects at least 16 pixels; take 32")
        if min(self.num_train, self.num_val) < len(CLASSES):
            raise ConfigError(
                f"num_train={self.num_train}, num_val={self.num_val}: each split needs at least one video per class"
            )


def prepare(
    root: str,
    *,
    num_train: int = 2000,
    num_val: int = 500,
    frames: int = 12,
    size: int = 32,
    gap: int = 6,
    seed: int = 0,
) -> None:
    """Write the data set: root/train/*.mp4, root/val/*.mp4, train.csv, val.csv (path,label) and classes.txt.

    A complete set of the same parameters is left as it is and an interrupted one is continued. DataError when the
    folder holds another set or other things. Validation videos are fresh draws, of the same distribution.
    """
    recipe = Recipe(num_train, num_val, frames, size, gap, seed)

    def draw(split: str, index: int, label: int, generator: np.random.Generator) -> NDArray[np.uint8]:
        return draw_video(label, generator, frames=frames, size=size, gap=gap)

    write_set(root, asdict(recipe), draw, name=lambda split, index: f"{index:05d}.mp4", classes=CLASSES)


def write_set(
    root: str,
    recipe: Mapping[str, object],
    draw: Draw,
    *,
    name: Callable[[str, int], str],
    classes: Sequence[str],
) -> None:
    """A data set of the family that ``recipe`` describes (with num_train, num_val and seed), as ``prepare`` says.

    Args:
        draw: split, number in it, label, generator -> uint8 [T, H, W, 3].
        name: split, number in it -> path of the file under root/SPLIT.
    """
    with _alone(root):
        if _begin(root, recipe):
            _write_all(root, recipe, draw, name, classes)


def _write_all(
    root: str, recipe: Mapping[str, Any], draw: Draw, name: Callable[[str, int], str], classes: Sequence[str]
) -> None:
    """Every video that is not there yet, then the lists, the classes and the mark of completeness."""
    splits = {"train": recipe["num_train"], "val": recipe["num_val"]}
    num_videos, done = sum(splits.values()), 0
    for number, (split, count) in enumerate(splits.items()):
        lines = ["path,label"]
        for index in range(count):
            label = index % len(classes)
            file = f"{split}/{name(split, index)}"
            path = os.path.join(root, file)
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                write_video(path, draw(split, index, label, np.random.default_rng([recipe["seed"], number, index])))
            lines.append(f"{file},{classes[label]}")
            done += 1
            if done % 500 == 0 or done == num_videos:
                print(f"synthetic data: {done} of {num_videos} videos in {root}", file=sys.stderr, flush=True)
        _write_text(os.path.join(root, f"{split}.csv"), lines)
    _write_text(os.path.join(root, "classes.txt"), classes)
    os.replace(os.path.join(root, _STARTED), os.path.join(root, _COMPLETE))


def draw_video(label: int, generator: np.random.Generator, *, frames: int, size: int, gap: int) -> NDArray[np.uint8]:
    """One video of a class. -> [T, H, W, 3]. A pure function of its arguments and the generator's state."""
    scene = draw_scene(label, generator, frames=frames, size=size, gap=gap)
    return render(scene, generator, frames=frames, size=size)


def looks(label: int) -> Iterator[tuple[Look, Look]]:
    """All pairs (first look, second look) of a class, each equally likely.

    Every look is equally frequent as the first and as the second in every class: no object alone tells the class.
    """
    hue_steps = (0,) if label < 2 else range(1, len(HUES))
    brightness_steps = (0,) if label % 2 == 0 else range(1, len(BRIGHTNESSES))
    for hue, brightness, hue_step, brightness_step in product(
        range(len(HUES)), range(len(BRIGHTNESSES)), hue_steps, brightness_steps
    ):
        yield (hue, brightness), ((hue + hue_step) % len(HUES), (brightness + brightness_step) % len(BRIGHTNESSES))


def draw_scene(label: int, generator: np.random.Generator, *, frames: int, size: int, gap: int) -> Scene:
    """What a video of a class shows. Only the pair of looks depends on the label."""
    pairs = list(looks(label))
    first, second = pairs[generator.integers(len(pairs))]
    bottom, right = generator.integers(2, size=2)
    visible = (frames - gap) // 2
    return Scene(
        _draw_object(first, generator, size=size, corner=(bottom, right), seen=range(visible)),
        _draw_object(
            second, generator, size=size, corner=(1 - bottom, 1 - right), seen=range(frames - visible, frames)
        ),
        tuple(_draw_distractor(generator, frames=frames, size=size) for _ in range(3)),
        generator.uniform(40, 90),
    )


def render(scene: Scene, generator: np.random.Generator, *, frames: int, size: int) -> NDArray[np.uint8]:
    """A scene with a little grey noise. -> [T, H, W, 3]."""
    video = scene.background + generator.normal(0, 5, (frames, size, size, 1)).repeat(3, axis=3)
    for thing in (*scene.distractors, scene.first, scene.second):
        for age, frame in enumerate(thing.seen):
            video[frame][_covered(thing, age, size)] = thing.colour
    return video.clip(0, 255).astype(np.uint8)


def write_video(path: str, video_THWC: NDArray[np.uint8]) -> None:
    """An H.264 mp4 file of uint8 [T, H, W, 3]; the same bytes for the same video. The file appears when complete."""
    partial = path + ".part"
    with av.open(partial, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODER)
        stream.height, stream.width = video_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in video_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(partial, path)


def _draw_object(
    look: Look, generator: np.random.Generator, *, size: int, corner: tuple[int, int], seen: range
) -> Thing:
    """One of the two objects, inside a quadrant (reaching a little across the middle); corner is (bottom?, right?)."""
    hue, brightness = look
    red, green, blue = (BRIGHTNESSES[brightness] * value for value in HUES[hue])
    radius = size * generator.uniform(0.17, 0.2)
    y, x = (
        size - 1 - offset if far else offset
        for offset, far in zip(generator.uniform(radius, size * 0.36, 2), corner, strict=True)
    )
    shape = SHAPES[generator.integers(len(SHAPES))]
    velocity_y, velocity_x = generator.uniform(-0.02, 0.02, 2) * size
    return Thing(shape, (red, green, blue), radius, (y, x), (velocity_y, velocity_x), seen)


def _draw_distractor(generator: np.random.Generator, *, frames: int, size: int) -> Thing:
    """A smaller grey thing, anywhere, for up to three frames."""
    grey = generator.uniform(110, 230)
    start = int(generator.integers(frames))
    y, x = generator.uniform(0.1, 0.9, 2) * size
    shape = SHAPES[generator.integers(len(SHAPES))]
    radius = size * generator.uniform(0.06, 0.12)
    return Thing(shape, (grey, grey, grey), radius, (y, x), (0.0, 0.0), range(start, min(start + 3, frames)))


def _covered(thing: Thing, age: int, size: int) -> NDArray[np.bool_]:
    """The pixels that a thing covers, ``age`` frames after its first. -> [H, W]."""
    axis = np.arange(size)
    y = np.abs(axis - thing.centre[0] - age * thing.velocity[0])[:, None]
    x = np.abs(axis - thing.centre[1] - age * thing.velocity[1])[None, :]
    if thing.shape == "disc":
        distance = np.hypot(y, x)
    elif thing.shape == "square":
        distance = np.maximum(y, x) * 1.13  # about the area of the disc
    else:
        distance = (y + x) * 0.8
    inside: NDArray[np.bool_] = distance <= thing.radius
    return inside


@contextmanager
def _alone(root: str) -> Iterator[None]:
    """Keeps other processes out, so that two runs that start together make the data once. Not on Windows."""
    os.makedirs(os.path.dirname(os.path.abspath(root)), exist_ok=True)
    with open(f"{root.rstrip(os.sep)}.lock", "w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, by a kill too
        yield


def _begin(root: str, recipe: Mapping[str, object]) -> bool:
    """Whether there is something to do; marks the folder as started, with its recipe."""
    complete, started = os.path.join(root, _COMPLETE), os.path.join(root, _STARTED)
    for marker in (complete, started):
        if os.path.exists(marker):
            found = _read_recipe(marker)
            if found != recipe:
                differences = ", ".join(
                    f"{key}={found.get(key)} (asked for: {recipe.get(key)})"
                    for key in {**recipe, **found}
                    if found.get(key) != recipe.get(key)
                )
                raise DataError(f"{root}: holds synthetic data with {differences}; delete it or choose another folder")
            return marker == started
    if os.path.isdir(root) and os.listdir(root):
        raise DataError(f"{root}: not empty, and not synthetic data of ours; choose another folder")
    os.makedirs(root, exist_ok=True)
    _write_text(started, [json.dumps(recipe)])
    return True


def _read_recipe(marker: str) -> dict[str, object]:
    try:
        with open(marker, encoding="utf-8") as file:
            found = json.load(file)
    except ValueError as error:
        raise DataError(f"{marker}: damaged; delete {os.path.dirname(marker)}, it is drawn anew") from error
    return found if isinstance(found, dict) else {}


def _write_text(path: str, lines: Sequence[str]) -> None:
    partial = path + ".part"
    with open(partial, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    os.replace(partial, path)
