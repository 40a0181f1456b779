"""Folders of frames: every name that extraction tools give, the same views as of a video, and no hole unseen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nlnet.data.annotations import find_missing, read_list
from nlnet.data.decoders import Frames, _cut
from nlnet.data.decoders.cached import CachedDecoder
from nlnet.data.decoders.frames import FramesDecoder
from nlnet.data.transforms import View
from nlnet.errors import ConfigError, VideoError
from tests.data.conftest import counter_frame, numbers_shown


def write_frames(folder: Path, pattern: str = "img_{:05d}.jpg", *, start: int = 1, count: int = 12) -> str:
    """Frame i shows the number i."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(counter_frame(index)).save(folder / pattern.format(start + index), quality=95)
    return str(folder)


@pytest.mark.parametrize("start", [0, 1, 7])
@pytest.mark.parametrize("file", ["img_{:05d}.jpg", "{:d}.png", "a b-{:06d}.JPEG", "frame2_{:03d}.webp"])
def test_frame_i_is_frame_i_whatever_the_names(file: str, start: int, tmp_path: Path) -> None:
    with FramesDecoder().open(write_frames(tmp_path / "v", file, start=start)) as reader:
        assert (reader.info.num_frames, reader.info.height, reader.info.width) == (12, 48, 64)
        assert reader.info.frames_per_second == 0
        assert numbers_shown(reader.frames(range(12))) == list(range(12))
        assert numbers_shown(reader.frames([9, 2, 2, 11])) == [9, 2, 2, 11]


def test_a_view_is_cropped_scaled_and_mirrored_as_of_a_video(tmp_path: Path) -> None:
    view = View((3, 5, 1), (4, 8, 32, 40), (24, 20), flip=True)
    with FramesDecoder(frames_per_second=12).open(write_frames(tmp_path / "v", "{:d}.png")) as reader:
        expected: Frames = _cut(np.stack([counter_frame(index) for index in (3, 5, 1)]), view)
        assert (reader.read(view) == expected).all()
        assert reader.info.frames_per_second == 12


def test_a_pattern_chooses_among_several_series(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "46GP8", "46GP8-{:06d}.jpg")
    for number in range(5):
        Image.fromarray(counter_frame(500)).save(tmp_path / "46GP8" / f"flow_x_{number:05d}.jpg")
    (tmp_path / "46GP8" / "notes 1.txt").write_text("x")
    with pytest.raises(VideoError, match=r"several names \(46GP8-, flow_x_\).*data.decoder.pattern"):
        FramesDecoder().open(folder)
    for pattern in ("46GP8-{number:06d}.jpg", "{folder}-{number:06d}.jpg"):
        with FramesDecoder(pattern=pattern).open(folder) as reader:
            assert numbers_shown(reader.frames(range(12))) == list(range(12))
    with pytest.raises(VideoError, match="no frames"):
        FramesDecoder(pattern="img_{number}.jpg").open(folder)


def test_numbers_without_zeros_behind_a_digit_are_the_patterns(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", "cam2{:d}.jpg", start=0)
    with FramesDecoder(pattern="cam2{number}.jpg").open(folder) as reader:
        assert numbers_shown(reader.frames(range(12))) == list(range(12))


def test_a_hole_and_what_is_no_picture_are_bad_videos(tmp_path: Path) -> None:
    holed = write_frames(tmp_path / "holed")
    (tmp_path / "holed" / "img_00004.jpg").unlink()
    (tmp_path / "holed" / "img_00009.jpg").unlink()
    with pytest.raises(VideoError, match="2 frames are missing, the first is number 4"):
        FramesDecoder().open(holed)
    broken = write_frames(tmp_path / "broken")
    (tmp_path / "broken" / "img_00003.jpg").write_bytes(b"<html>")
    with FramesDecoder().open(broken) as reader:
        assert numbers_shown(reader.frames([0, 1])) == [0, 1]
        with pytest.raises(VideoError, match=r"img_00003\.jpg"):
            reader.frames([1, 2])
    mixed = write_frames(tmp_path / "mixed")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "mixed" / "img_00002.jpg")
    with FramesDecoder().open(mixed) as reader, pytest.raises(VideoError, match=r"img_00002\.jpg is 30x20, not 64x48"):
        reader.frames([1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no frames"):
        FramesDecoder().open(str(tmp_path / "empty"))


def test_lists_of_folders_know_which_are_missing(tmp_path: Path) -> None:
    write_frames(tmp_path / "a")
    (tmp_path / "file").write_text("x")
    (tmp_path / "list.txt").write_text("a 12 0\ngone 12 1\nfile 9 1\n")
    videos = read_list(str(tmp_path / "list.txt"), root=str(tmp_path))
    for decoder in (FramesDecoder(), CachedDecoder(FramesDecoder())):
        missing = find_missing(videos, unreadable=decoder.unreadable)
        assert [(video.name, reason) for video, reason in missing] == [
            ("gone", "no such folder"),
            ("file", "not a folder of frames"),
        ]


@pytest.mark.parametrize("pattern", ["img.jpg", "img_{:05d}.jpg", "img_{number:05d}_{other}.jpg", "img_{number"])
def test_patterns_without_a_number_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.decoder\.pattern"):
        FramesDecoder(pattern=pattern)
