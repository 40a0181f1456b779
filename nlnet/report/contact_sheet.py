"""A contact sheet: what the network is shown, one clip per row, so that swapped channels, wrong labels, wrong crops
and frozen frames are seen before the training and not after it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nlnet.report.pictures import label, to_png

MAX_FRAMES = 8
# Frames are enlarged or shrunk by whole factors until the longer side comes to about this many pixels.
FRAME_PIXELS = 128
GAP = 4
MARGIN = 16
TITLE_PIXELS = 26
# Dark grey: black frames and white frames both show their edges on it, on a light page and on a dark one.
PAPER, TEXT = "#30353c", "#f0f2f4"


def choose_frames(num_frames: int, *, limit: int = MAX_FRAMES) -> list[int]:
    """Indices of at most ``limit`` frames spread evenly from the first to the last: 16 -> 0, 2, 4, 6, 9, 11, 13, 15."""
    count = min(num_frames, limit)
    return [round(position) for position in np.linspace(0, num_frames - 1, count)]


def fit_frames(frames: NDArray[np.uint8], *, pixels: int = FRAME_PIXELS) -> NDArray[np.uint8]:
    """uint8 [T, H, W, C] -> [T, h, w, 3]: pixels repeated, or averaged in whole blocks, to about ``pixels``."""
    if frames.shape[-1] == 1:
        frames = frames.repeat(3, axis=-1)
    longer = max(frames.shape[1:3])
    if longer <= pixels:
        factor = pixels // longer
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    factor = min(round(longer / pixels), *frames.shape[1:3])
    T, H, W, C = frames.shape
    h, w = H // factor, W // factor
    blocks = frames[:, : h * factor, : w * factor].reshape(T, h, factor, w, factor, C)
    return np.asarray(blocks.mean(axis=(2, 4)).round(), dtype=np.uint8)


def _film_strip(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[T, H, W, C] -> up to eight frames side by side, RGBA [h, w', 4], transparent between them."""
    if clip.ndim != 4 or clip.dtype != np.uint8 or clip.shape[-1] not in (1, 3) or 0 in clip.shape:
        raise ValueError(f"a clip is uint8 [T, H, W, 1 or 3], not {clip.dtype} {list(clip.shape)}")
    frames = fit_frames(clip[choose_frames(len(clip))])
    T, h, w, _ = frames.shape
    strip = np.zeros((h, T * (w + GAP) - GAP, 4), dtype=np.uint8)
    for index, frame in enumerate(frames):
        left = index * (w + GAP)
        strip[:, left : left + w, :3] = frame
        strip[:, left : left + w, 3] = 255
    return strip


def contact_sheet(clips: Sequence[NDArray[np.uint8]], titles: Sequence[str], *, path: str | Path) -> None:
    """Clips, each uint8 [T, H, W, C] with its title -> a PNG at ``path``: a row per clip, up to eight frames each."""
    if not clips or len(clips) != len(titles):
        raise ValueError(f"a contact sheet needs clips and as many titles: {len(clips)} clips, {len(titles)} titles")
    strips = [_film_strip(np.asarray(clip)) for clip in clips]
    width = max(strip.shape[1] for strip in strips) + 2 * MARGIN
    height = sum(strip.shape[0] + TITLE_PIXELS for strip in strips) + GAP * (len(strips) - 1) + 2 * MARGIN
    dots_per_inch = 100
    figure = Figure(figsize=(width / dots_per_inch, height / dots_per_inch), dpi=dots_per_inch)
    bottom = height - MARGIN
    for strip, title in zip(strips, titles, strict=True):
        text = label(title, limit=max(12, (width - 2 * MARGIN) // 8))
        figure.text(
            MARGIN / width, (bottom - TITLE_PIXELS / 2 + 2) / height, text,
            color=TEXT, fontsize=9.5, va="center",
        )  # fmt: skip
        bottom -= TITLE_PIXELS + strip.shape[0]
        # figimage sets pixel on pixel: nothing is smoothed.
        figure.figimage(strip, xo=MARGIN, yo=bottom, origin="upper")
        bottom -= GAP
    # Written aside and renamed: a run that is killed here leaves no half picture behind.
    unfinished = Path(path).with_suffix(".tmp")
    unfinished.write_bytes(to_png(figure, dots_per_inch=dots_per_inch, paper=PAPER))
    unfinished.replace(path)
