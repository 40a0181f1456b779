"""Weights over frames: where they land in pixels, what the pictures are, and files that play."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from nlnet.models.looking import Attention, Grid
from nlnet.report.heat import MAX_STEPS, draw_arrows, draw_heat, over_pixels, overlay, write_moving

CLIP = np.random.default_rng(0).integers(0, 255, (8, 40, 60, 3), dtype=np.uint8)


def test_a_weight_lies_over_the_pixels_of_its_place() -> None:
    grid = Grid((4, 5, 6), (8, 40, 60), (2, 2))  # keys of 2×3 places: 16×20 pixels each, the last 8 rows uncovered
    weights = np.zeros((4, 2, 3), dtype=np.float32)
    weights[3, 1, 2] = 1
    pixels = over_pixels(weights, grid)
    assert pixels.shape == (8, 40, 60)
    y, x = (int(value) for value in grid.centre(1, 2))
    assert pixels[6, y, x] == pixels[7, y, x] == pixels.max() > 0.9
    assert not pixels[:6].any()
    assert not pixels[:, 32:].any()
    assert not pixels[:, :, :30].any()
    even = over_pixels(np.ones((2, 2, 3), dtype=np.float32), Grid((2, 4, 6), (8, 40, 60), (2, 2)))
    np.testing.assert_allclose(even, 1, rtol=1e-6)


def test_colours_say_how_strong_and_on_which_side() -> None:
    weights = np.zeros((8, 40, 60), dtype=np.float32)
    weights[:, :, :20], weights[:, :, 20:40] = 1.0, -1.0
    pixels = overlay(np.full_like(CLIP, 100), weights).astype(int)
    assert (pixels[:, :, :20, 0] > pixels[:, :, :20, 2]).all()  # warm
    assert (pixels[:, :, 20:40, 2] > pixels[:, :, 20:40, 0]).all()  # blue
    assert (pixels[:, :, 40:] == 80).all()  # grey, a little darker
    assert (overlay(CLIP, np.full((8, 40, 60), 0.3, np.float32)).std(axis=-1) < 1).all()  # all alike: nothing to show


def attention(shape: tuple[int, int, int], best: dict[tuple[int, int, int], float]) -> Attention:
    weights = torch.zeros(shape)
    for place, weight in best.items():
        weights[place] = weight
    return Attention("res3.nl1", "Gaussian", (1, 2, 3), weights, Grid(shape, (8, 40, 60)))


def test_pictures() -> None:
    look = attention((4, 5, 6), {(3, 4, 5): 0.5, (0, 0, 0): 0.25})
    drawn = [draw_arrows(CLIP, look, "title", count=20), draw_heat(CLIP, look.weights.numpy(), look.grid, "title")]
    drawn.append(draw_arrows(CLIP, attention((4, 5, 6), {}), "no weight above 0"))
    sizes = {Image.open(io.BytesIO(png)).size for png in drawn}
    assert len(sizes) == 1
    arrows, heat, none = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in drawn)
    yellow = lambda image: ((abs(image - np.array([255, 210, 63]))).sum(-1) < 60).sum()  # noqa: E731
    assert yellow(arrows) > yellow(none) + 100
    assert (arrows != heat).any()


def test_of_many_frames_those_with_the_most_weight_are_shown() -> None:
    many = attention((40, 5, 6), {(39, 0, 0): 1.0, (20, 1, 1): 0.5})
    few = attention((MAX_STEPS, 5, 6), {(3, 0, 0): 1.0})
    sizes = [Image.open(io.BytesIO(draw_arrows(CLIP, look, "title"))).size for look in (many, few)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_moving_pictures_play(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    write_moving(path, CLIP[:, :39, :59])  # odd sides
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 8
    assert frames[0].shape[0] // 39 == frames[0].shape[1] // 59 == 2  # enlarged in whole pixels
    if ending == "gif":
        assert Image.open(path).info["loop"] == 0
