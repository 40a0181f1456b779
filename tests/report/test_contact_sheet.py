import io

import matplotlib.image
import numpy as np
import pytest

from nlnet.report.contact_sheet import GAP, MARGIN, TITLE_PIXELS, choose_frames, contact_sheet, fit_frames


def read(path):
    """PNG -> uint8 [H, W, 3]."""
    return (matplotlib.image.imread(io.BytesIO(path.read_bytes()))[..., :3] * 255).round().astype(np.uint8)


def test_frames_are_spread_over_the_clip():
    assert choose_frames(16) == [0, 2, 4, 6, 9, 11, 13, 15]
    assert choose_frames(3) == [0, 1, 2]
    assert choose_frames(1) == [0]
    assert len(set(choose_frames(9))) == 8


def test_tiny_frames_grow_by_repeating_pixels():
    clip = np.random.default_rng(0).integers(0, 256, (2, 32, 30, 3), dtype=np.uint8)
    large = fit_frames(clip)
    assert large.shape == (2, 128, 120, 3)
    np.testing.assert_array_equal(large[:, 1::4, 2::4], clip)


def test_large_frames_shrink_by_averaging_blocks():
    clip = np.random.default_rng(0).integers(0, 256, (1, 224, 301, 1), dtype=np.uint8)
    small = fit_frames(clip)
    assert small.shape == (1, 112, 150, 3)
    assert small[0, 3, 5].tolist() == [round(float(clip[0, 6:8, 10:12].mean()))] * 3


def test_every_pixel_of_every_chosen_frame_is_on_the_sheet(tmp_path):
    clips = [np.random.default_rng(seed).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8) for seed in (0, 1)]
    contact_sheet(clips, ["first $\\x$", "_second <b>"], path=tmp_path / "sheet.png")
    sheet = read(tmp_path / "sheet.png")
    assert sheet.shape == (2 * MARGIN + 2 * (TITLE_PIXELS + 128) + GAP, 2 * MARGIN + 8 * 128 + 7 * GAP, 3)
    top = MARGIN
    for clip in clips:
        top += TITLE_PIXELS
        for column, index in enumerate(choose_frames(10)):
            left = MARGIN + column * (128 + GAP)
            shown = sheet[top : top + 128, left : left + 128]
            np.testing.assert_array_equal(shown, clip[index].repeat(4, axis=0).repeat(4, axis=1))
        top += 128 + GAP


def test_clips_of_different_sizes_share_a_sheet(tmp_path):
    clips = [np.zeros(shape, dtype=np.uint8) for shape in ((1, 1, 1, 3), (20, 224, 64, 3), (5, 16, 500, 1))]
    contact_sheet(clips, ["", "名前", "x" * 500], path=tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("clips", "titles"),
    [
        ([], []),
        ([np.zeros((1, 8, 8, 3), np.uint8)], []),
        ([np.zeros((1, 8, 8, 3), np.float32)], ["float"]),
        ([np.zeros((3, 1, 8, 8), np.uint8)], ["channels first"]),
        ([np.zeros((0, 8, 8, 3), np.uint8)], ["no frames"]),
    ],
)
def test_what_is_no_clip_is_refused(tmp_path, clips, titles):
    with pytest.raises(ValueError, match="clip"):
        contact_sheet(clips, titles, path=tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
