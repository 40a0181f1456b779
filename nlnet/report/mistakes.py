"""The wrong answers of an evaluation that were given with the highest scores: which, and what the network looked at.

Axes: T frames, H×W pixels.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from nlnet.errors import VideoError
from nlnet.models.looking import Grid, Look, class_activation
from nlnet.report.contact_sheet import choose_frames, fit_frames
from nlnet.report.heat import over_pixels, overlay
from nlnet.report.pictures import to_png
from nlnet.report.run_folder import Predictions, RunFolder, read_png, read_predictions

MAX_PICTURES = 8
FRAMES = 6
FRAME_PIXELS = 112


def worst_mistakes(predictions: Predictions, *, limit: int) -> list[int]:
    """Numbers of the scored videos that are wrong, the surest first, at most ``limit``."""
    predicted = predictions.predicted()
    wrong = ((predicted != predictions.labels) & predictions.scored).nonzero()[0]
    return sorted(wrong.tolist(), key=lambda video: (-predictions.scores[video, predicted[video]], video))[:limit]


def picture_file(video: int) -> str:
    """Name of the picture of a video, by its number in the list."""
    return f"mistakes/{video}.png"


def draw_mistakes(
    folder: Path,
    model: nn.Module,
    *,
    read: Callable[[int], Tensor],
    to_input: Callable[[Tensor], Tensor],
    device: torch.device,
) -> list[Path]:
    """Draws the worst mistakes of an evaluation into its ``folder``, replacing those of an earlier one.

    Frames of a clip and, below, what the last non-local block attends to from the position that it changes most; for
    a network without blocks, what speaks for the class that it took the video for.

    Args:
        read: number of a video -> one of its clips, uint8 [T, H, W, 3].
        to_input: uint8 [B, T, H, W, 3] -> the model's input [B, 3, T, H, W].
    """
    for old in folder.glob("mistakes/*.png"):
        old.unlink()
    predictions = read_predictions(folder)
    if predictions is None:
        return []
    predicted = predictions.predicted()
    written = []
    for video in worst_mistakes(predictions, limit=MAX_PICTURES):
        path = folder / picture_file(video)
        try:
            clip = read(video)
            weights, grid = _seen(model, to_input(clip[None].to(device)), int(predicted[video]))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_picture(clip.numpy(), weights, grid))
        except (VideoError, OSError):  # a video that has gone since, a full disk: the picture is a courtesy
            continue
        written.append(path)
    return written


def _seen(model: nn.Module, clip: Tensor, predicted: int) -> tuple[NDArray[np.float32], Grid]:
    """The weights to show, and the grid they are on."""
    look = Look(model, clip)
    if look.blocks:
        name = list(look.blocks)[-1]
        (attention,) = look.attention(name, [look.strongest_query(name)])
        return attention.weights.numpy(), attention.grid
    maps = class_activation(model, clip)[predicted].cpu().numpy()
    return maps, Grid((maps.shape[0], maps.shape[1], maps.shape[2]), look.clip_size)


def _picture(clip: NDArray[np.uint8], weights: NDArray[np.float32], grid: Grid) -> bytes:
    """Frames above, the same under their weights below, pixel on pixel -> PNG."""
    chosen = choose_frames(len(clip), limit=FRAMES)
    rows = [
        fit_frames(frames[chosen], pixels=FRAME_PIXELS) for frames in (clip, overlay(clip, over_pixels(weights, grid)))
    ]
    whole = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    height, width = whole.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.figimage(whole, origin="upper")
    return to_png(figure, dots_per_inch=100)


def pictures(run: RunFolder, views: str, videos: list[int]) -> Mapping[int, bytes]:
    """The PNG of each of these videos that has one."""
    found = {video: read_png(run.evaluation(views) / picture_file(video)) for video in videos}
    return {video: png for video, png in found.items() if png}
