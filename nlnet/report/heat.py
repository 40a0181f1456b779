"""Weights over the frames of a clip: as arrows (paper, figure 3), as a strip of pictures, as a moving picture.

Axes: T frames, H×W pixels; t, h, w of a map of weights.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from nlnet.models.looking import Attention, Grid
from nlnet.report.pictures import label, to_png

Frames = NDArray[np.uint8]
MAX_STEPS = 16  # frames of a picture; more would be too small to see
STEPS_A_ROW = 8
FRAME_PIXELS = 168  # longer side of a frame in a picture, about
GAP = 6
PAPER, TEXT, QUERY, ARROW = "#30353c", "#f0f2f4", "#ff4d4d", "#ffd23f"
DOTS_PER_INCH = 100


def over_pixels(weights: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """A map [t, h, w] -> [T, H, W] over the clip's pixels, smooth between places; 0 where no place covers them."""
    frames, height, width = grid.clip
    rows, columns = (
        round(places * cells * pixels / of)
        for places, cells, pixels, of in zip(weights.shape[1:], grid.cells, grid.clip[1:], grid.map[1:], strict=True)
    )
    covered = F.interpolate(
        torch.from_numpy(weights)[:, None], size=(rows, columns), mode="bilinear", align_corners=False
    )[:, 0].numpy()
    whole = np.zeros((len(weights), height, width), dtype=np.float32)
    whole[:, :rows, :columns] = covered[:, :height, :width]
    return whole[[min(frame * len(weights) // frames, len(weights) - 1) for frame in range(frames)]]


def overlay(clip: Frames, weights_THW: NDArray[np.float32]) -> Frames:
    """A clip [T, H, W, 3] in grey under its weights in colour -> [T, H, W, 3].

    From the clip's smallest weight (or 0, if that is larger) as clear as glass to its largest in size. What is below 0,
    as dot products can be, is blue.
    """
    grey = clip.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    least = max(float(weights_THW.min()), 0.0)
    above = np.abs(weights_THW) - least
    strength = (above / max(float(above.max()), 1e-12)).clip(0, 1)
    warm = matplotlib.colormaps["inferno"](0.35 + 0.65 * strength)[..., :3] * 255
    colour = np.where(weights_THW[..., None] < 0, np.array([64, 140, 255]), warm)
    opacity = 0.85 * strength[..., None]
    return np.asarray((0.8 * grey[..., None] * (1 - opacity) + colour * opacity).round().clip(0, 255), dtype=np.uint8)


def draw_heat(
    clip: Frames, weights: NDArray[np.float32], grid: Grid, title: str, *, mark: Attention | None = None
) -> bytes:
    """The clip [T, H, W, 3] under a map of weights [t, h, w], a frame for each step of the map -> PNG."""
    board = _Board(overlay(clip, over_pixels(weights, grid)), grid, _steps(weights, mark))
    if mark is not None:
        board.mark_query(mark)
    return board.png(title)


def draw_arrows(clip: Frames, attention: Attention, title: str, *, count: int = 20) -> bytes:
    """Arrows from the query position to the ``count`` keys of the highest weights, across the frames -> PNG.

    As the paper's figure 3. The stronger a weight, the more opaque and thick its arrow.
    """
    strongest = attention.strongest(count)
    chosen = np.zeros(attention.weights.shape, dtype=np.float32)
    for place, weight in strongest:
        chosen[place] = weight
    board = _Board(clip, attention.grid, _steps(chosen, attention))
    start = board.query(attention)
    for (t, row, column), weight in reversed(strongest):  # the strongest on top
        end = board.point(t, attention.grid.centre(row, column))
        if start is not None and end is not None:
            board.arrow(start, end, weight / strongest[0][1])
    board.mark_query(attention)
    return board.png(title)


def write_moving(path: Path, frames: Frames, *, frames_per_second: float = 8.0) -> None:
    """uint8 [T, H, W, 3] -> a .gif that plays without end, or an .mp4 (H.264, plays everywhere), by the file's name."""
    factor = max(1, FRAME_PIXELS // max(frames.shape[1:3]))
    frames = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    unfinished = path.with_name("unfinished-" + path.name)
    if path.suffix == ".gif":
        from PIL import Image  # comes with matplotlib

        pictures = [Image.fromarray(frame) for frame in frames]
        pictures[0].save(
            unfinished, save_all=True, append_images=pictures[1:], duration=round(1000 / frames_per_second), loop=0
        )
    else:
        frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
        with av.open(str(unfinished), "w", format="mp4") as container:
            rate = Fraction(frames_per_second).limit_denominator(1000)
            stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
    unfinished.replace(path)


def _steps(weights: NDArray[np.float32], attention: Attention | None) -> list[int]:
    """Which steps of a map are shown: all, or the MAX_STEPS with the most weight and the query's, in order."""
    mass = np.abs(weights).sum(axis=(1, 2))
    if attention is not None:
        mass[attention.query[0]] = np.inf
    return sorted(np.argsort(-mass, kind="stable")[:MAX_STEPS].tolist())


class _Board:
    """Frames of a clip side by side in rows, and what is drawn across them."""

    def __init__(self, clip: Frames, grid: Grid, steps: Sequence[int]) -> None:
        longer = max(clip.shape[1:3])
        self._scale = FRAME_PIXELS / longer
        self._grid, self._steps = grid, list(steps)
        height, width = (round(side * self._scale) for side in clip.shape[1:3])
        columns = min(STEPS_A_ROW, len(steps))
        rows = -(-len(steps) // columns)
        self._corners = {
            step: ((index // columns) * (height + GAP), (index % columns) * (width + GAP))
            for index, step in enumerate(steps)
        }
        # Title above, frame numbers below each row.
        self._width, self._height = columns * (width + GAP) - GAP + 24, rows * (height + GAP) - GAP + 24 + 26
        self._figure = Figure(
            figsize=(self._width / DOTS_PER_INCH, self._height / DOTS_PER_INCH), dpi=DOTS_PER_INCH, facecolor=PAPER
        )
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(-12, self._width - 12)
        self._axes.set_ylim(self._height - 38, -38)
        self._axes.axis("off")
        smooth = "nearest" if longer < FRAME_PIXELS // 2 else "bilinear"
        for step, (top, left) in self._corners.items():
            frame = clip[grid.frame(step)]
            self._axes.imshow(
                frame, extent=(left, left + width, top + height, top), interpolation=smooth, aspect="auto"
            )
            self._axes.text(
                left + 4, top + height - 5, f"{grid.frame(step)}", color="white", fontsize=7.5,
                bbox={"facecolor": "black", "alpha": 0.55, "pad": 1.5, "linewidth": 0},
            )  # fmt: skip

    def point(self, step: int, centre: tuple[float, float]) -> tuple[float, float] | None:
        """A pixel (y, x) of a step's frame -> (x, y) of the board; None where the step is not shown."""
        if step not in self._corners:
            return None
        top, left = self._corners[step]
        return left + centre[1] * self._scale, top + centre[0] * self._scale

    def query(self, attention: Attention) -> tuple[float, float] | None:
        step, row, column = attention.query
        return self.point(step, Grid(self._grid.map, self._grid.clip).centre(row, column))

    def mark_query(self, attention: Attention) -> None:
        if (place := self.query(attention)) is not None:
            self._axes.plot(*place, "o", markersize=8, markerfacecolor=QUERY, markeredgecolor="white", zorder=5)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], strength: float) -> None:
        self._axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=8 + 6 * strength, linewidth=0.8 + 1.8 * strength,
                color=ARROW, alpha=0.35 + 0.65 * strength, shrinkA=4, shrinkB=0, connectionstyle="arc3,rad=0.12",
                zorder=4,
            )
        )  # fmt: skip

    def png(self, title: str) -> bytes:
        limit = max(12, self._width // 7)
        self._axes.text(0, -20, label(title, limit=limit), color=TEXT, fontsize=9.5, va="center")
        return to_png(self._figure, dots_per_inch=DOTS_PER_INCH, paper=PAPER)
