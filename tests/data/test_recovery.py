"""What can still be had of damaged files, files of any name, and nothing lost however many are opened."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.errors import VideoError
from tests.data.conftest import ENCODINGS, PLAIN, Encoding, numbers_shown
from tests.data.opens import growth
from tests.data.test_bad_videos import damaged_files
from tests.data.test_decoders import DECODERS

CounterVideo = Callable[[Encoding, int], str]


def frames_of_sound_packets(path: str) -> list[np.ndarray]:
    """The reference: every packet decoded by itself, the broken ones skipped."""
    frames = []
    with av.open(path, options={"protocol_whitelist": "file"}, metadata_errors="replace") as container:
        stream = container.streams.best("video")
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                packet = None
            with suppress(av.error.FFmpegError):
                frames += stream.codec_context.decode(packet)
            if packet is None or not packet.size:
                break
    return [frame.to_ndarray(format="rgb24") for frame in frames]


def test_no_frame_of_a_damaged_file_is_lost(tmp_path: Path, counter_video: CounterVideo) -> None:
    """At least what skipping broken packets gives, the same frames in the same places."""
    files = [path for path in damaged_files(tmp_path, counter_video) if Path(path).is_file()]
    fragmented = Path(counter_video(ENCODINGS["mp4, fragmented"], 83)).read_bytes()
    for name, content in (("cut.mp4", fragmented[: len(fragmented) // 2]), ("tail.mp4", fragmented[:-300])):
        (tmp_path / name).write_bytes(content)
        files.append(str(tmp_path / name))
    recovered = 0
    for path in files:
        try:
            expected = frames_of_sound_packets(path)
        except (av.error.FFmpegError, AttributeError, ValueError):
            expected = []  # it cannot be opened, or has no video stream
        if not expected:
            with pytest.raises(VideoError):
                PyAVDecoder().open(path)
            continue
        with PyAVDecoder().open(path) as reader:
            assert reader.info.num_frames >= len(expected), path
            frames = reader.frames(range(reader.info.num_frames))
        same = [frame for frame in expected if frame.shape == frames.shape[1:]]
        assert len(same) == len(expected), path
        assert (frames[: len(expected)] == np.stack(expected)).all(), path
        recovered += 1
    assert len(files) >= 30
    assert recovered >= 15


NAMES = [
    "a b.mp4",
    'it\'s "so".mp4',
    "two\nlines.mp4",
    "видео 動画.mp4",
    "-v.mp4",
    "100%d?.mp4",
    "a:b#c.mp4",
    "no ending",
]


@pytest.mark.parametrize("decoder", ["pyav", "decord", "torchcodec"])
def test_files_of_any_name_are_read(
    decoder: str, tmp_path: Path, counter_video: CounterVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(counter_video(PLAIN, 30)).read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Path(name).write_bytes(content)
        for path in (name, str(tmp_path / name)):
            with DECODERS[decoder]().open(path) as reader:
                assert numbers_shown(reader.frames([3, 29])) == [3, 29], name


def test_entries_that_are_no_files_are_said_so(tmp_path: Path, counter_video: CounterVideo) -> None:
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("loop.mp4", "symbolic links"),
        ("folder.mp4", "not a file"),
        ("dangling.mp4", "no such file"),
        ("pipe.mp4", "not a file"),
    ):
        with pytest.raises(VideoError, match=reason) as caught:
            PyAVDecoder().open(str(tmp_path / name))
        assert name in str(caught.value)
    (tmp_path / "linked.mp4").symlink_to(counter_video(PLAIN, 30))
    with PyAVDecoder().open(str(tmp_path / "linked.mp4")) as reader:
        assert numbers_shown(reader.frames([7])) == [7]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_said_so(tmp_path: Path, counter_video: CounterVideo) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(Path(counter_video(PLAIN, 30)).read_bytes())
    path.chmod(0)
    with pytest.raises(VideoError, match="ermission"):
        PyAVDecoder().open(str(path))


def test_opening_many_files_loses_nothing(tmp_path: Path, counter_video: CounterVideo) -> None:
    """Memory and open files stay where they are. ``python -m tests.data.opens 5000`` is the long version."""
    files = [*damaged_files(tmp_path, counter_video), counter_video(PLAIN, 83), counter_video(ENCODINGS["mkv"], 83)]
    bytes_per_open, descriptors = growth(files, opens=240, warm_up=120)
    assert descriptors == 0
    assert bytes_per_open < 50_000
