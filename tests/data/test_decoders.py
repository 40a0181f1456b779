"""What every decoder promises: frame i is frame i, and views are read as drawn.

A new decoder joins by a line in DECODERS.
"""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlnet.data.decoders import Decoder, VideoReader
from nlnet.data.decoders.cached import CachedDecoder, CachedReader
from nlnet.data.decoders.pyav import PyAVDecoder, PyAVReader
from nlnet.data.transforms import View
from nlnet.errors import ConfigError, VideoError
from tests.data.conftest import BEFORE_ZERO, ENCODINGS, PLAIN, Encoding, counter_frame, numbers_shown, write_video

try:
    import decord
except ImportError:
    decord = None

CounterVideo = Callable[[Encoding, int], str]


def decord_decoder() -> Decoder:
    if decord is None:
        pytest.skip("decord has no wheel for this platform")
    from nlnet.data.decoders.decord import DecordDecoder

    return DecordDecoder()


DECODERS: dict[str, Callable[[], Decoder]] = {
    "pyav": PyAVDecoder,
    "decord": decord_decoder,
    "cached": lambda: CachedDecoder(PyAVDecoder()),
}

REFUSED = {("decord", "ts")}


def sequential_frames(path: str) -> list[np.ndarray]:
    """The reference: everything decoded in order."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def index_sets(num_frames: int) -> Iterator[list[int]]:
    """Random windows, single frames, loops, repeats, and any order."""
    rng = np.random.default_rng(num_frames)
    yield list(range(num_frames))
    yield [num_frames - 1]
    yield [0]
    for stride in (1, 2, 8):
        for _ in range(4):
            start = int(rng.integers(num_frames))
            yield [(start + k * stride) % num_frames for k in range(8)]
    yield rng.integers(num_frames, size=10).tolist()
    yield [num_frames // 2] * 5


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_frame_i_is_frame_i(decoder: str, encoding: str, counter_video: CounterVideo) -> None:
    for num_frames in (83, 1):
        path = counter_video(ENCODINGS[encoding], num_frames)
        if (decoder, encoding) in REFUSED:
            with pytest.raises(VideoError, match="transport"):
                DECODERS[decoder]().open(path)
            return
        if decoder == "decord" and num_frames == 1 and path.endswith((".mpg", ".flv", ".wmv")):
            continue  # it reads no single frame there, and says so
        for indices in index_sets(num_frames):
            with DECODERS[decoder]().open(path) as reader:
                assert (reader.info.height, reader.info.width) == (48, 64)
                assert reader.info.num_frames == num_frames
                frames = reader.frames(indices)
                assert frames.dtype == np.uint8
                assert frames.flags.c_contiguous
                assert numbers_shown(frames) == indices


@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_that_an_edit_list_hides_do_not_count(decoder: str, counter_video: CounterVideo) -> None:
    """As in clips cut without encoding anew: the first 10 frames come before the time zero."""
    path = counter_video(BEFORE_ZERO, 60)
    assert len(sequential_frames(path)) == 50
    with DECODERS[decoder]().open(path) as reader:
        assert reader.info.num_frames == (
            60 if decoder == "decord" else 50
        )  # decord counts them, but does not show them
        for indices in index_sets(50):
            assert numbers_shown(reader.frames(indices)) == [index + 10 for index in indices]


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith(("mp4", "mkv", "webm, vp9"))])
def test_pyav_seeks_where_it_can(encoding: str, counter_video: CounterVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clip of a sound file needs the slow way."""
    monkeypatch.delattr(PyAVReader, "_decode_in_order")
    with PyAVDecoder().open(counter_video(ENCODINGS[encoding], 83)) as reader:
        for indices in index_sets(83):
            assert numbers_shown(reader.frames(indices)) == indices


@pytest.mark.parametrize("decoder", DECODERS)
def test_pixels_are_those_of_a_sequential_decode(decoder: str, counter_video: CounterVideo) -> None:
    path = counter_video(PLAIN, 30)
    expected = np.stack(sequential_frames(path))
    with DECODERS[decoder]().open(path) as reader:
        assert np.abs(reader.frames(range(30)).astype(int) - expected).max() <= 2
        assert abs(reader.info.frames_per_second - 25) < 0.01


@pytest.mark.parametrize("decoder", DECODERS)
def test_indices_out_of_range_are_the_callers_mistake(decoder: str, counter_video: CounterVideo) -> None:
    with DECODERS[decoder]().open(counter_video(PLAIN, 30)) as reader:
        for indices in ([30], [-1], []):
            with pytest.raises(IndexError):
                reader.frames(indices)


def slow_read(frames: np.ndarray, view: View) -> np.ndarray:
    """Index, cut, scale in double precision, mirror."""
    top, left, height, width = view.box
    clip = torch.from_numpy(frames[list(view.indices), top : top + height, left : left + width].copy())
    clip = clip.permute(0, 3, 1, 2).double()
    clip = F.interpolate(clip, size=view.size, mode="bilinear", antialias=True, align_corners=False)
    clip = clip.permute(0, 2, 3, 1)
    return (clip.flip(2) if view.flip else clip).numpy()


VIEWS = [
    View((3, 1, 3), (0, 0, 48, 64), (48, 64), False),
    View((3, 1, 3), (0, 0, 48, 64), (48, 64), True),
    View((0, 5, 10), (7, 11, 24, 30), (24, 30), True),
    View((0, 5, 10), (7, 11, 24, 30), (50, 41), False),
    View((0, 5, 10), (5, 3, 40, 40), (17, 13), True),
    View((29,), (47, 63, 1, 1), (8, 8), False),
]


@pytest.mark.parametrize("decoder", DECODERS)
def test_views_are_read_as_drawn(decoder: str, counter_video: CounterVideo) -> None:
    path = counter_video(PLAIN, 30)
    expected = np.stack(sequential_frames(path))
    with DECODERS[decoder]().open(path) as reader:
        for view in VIEWS:
            clip = reader.read(view)
            assert clip.shape == (len(view.indices), *view.size, 3)
            assert clip.dtype == np.uint8
            assert clip.flags.c_contiguous
            assert clip.flags.writeable
            assert np.abs(clip - slow_read(expected, view)).max() <= 3  # 2 of the decoder, 1 of rounding


@pytest.mark.parametrize("max_bytes", [1 << 29, 5 * 48 * 64 * 3, 0])
def test_several_views_are_read_as_one_by_one(max_bytes: int, counter_video: CounterVideo) -> None:
    decoded: list[int] = []

    class Remembering(PyAVReader):
        def _decode(self, indices: list[int]) -> np.ndarray:
            decoded.extend(indices)
            return super()._decode(indices)

    views = [View(clip, view.box, view.size) for clip in ((0, 1, 2), (2, 3, 0), (9, 1, 9)) for view in VIEWS[:4]]
    with Remembering(counter_video(PLAIN, 30)) as reader:
        expected = [reader.read(view) for view in views]
        decoded.clear()
        clips = reader.read_all(views, max_bytes=max_bytes)
    assert len(clips) == len(views)
    assert all((clip == other).all() for clip, other in zip(clips, expected, strict=True))
    # All at once; two clips and then one; view by view.
    assert decoded == {1 << 29: [0, 1, 2, 3, 9], 0: decoded}.get(max_bytes, [0, 1, 2, 3, 9])
    assert max_bytes or len(decoded) == 4 * (3 + 3 + 2)


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_rotation_is_applied(turn: int, tmp_path: Path) -> None:
    frames = list(map(counter_frame, range(5)))
    path = str(tmp_path / "turned.mov")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = 48, 64
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation")
        stream.set_display_rotation(turn)
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        stored = next(container.decode(video=0))
    assert stored.rotation in (turn, turn % 360, -180)
    for decoder in DECODERS:
        with DECODERS[decoder]().open(path) as reader:
            shown = reader.frames([3])[0]
            expected = np.rot90(frames[3], turn // 90)  # both counter-clockwise
            assert shown.shape == expected.shape == (reader.info.height, reader.info.width, 3)
            assert np.abs(shown.astype(int) - expected).mean() < 5, decoder


def test_decoders_travel_to_workers(counter_video: CounterVideo) -> None:
    path = counter_video(PLAIN, 30)
    for make in DECODERS.values():
        decoder = make()
        with decoder.open(path) as reader:
            expected = reader.frames([3])
        with pickle.loads(pickle.dumps(decoder)).open(path) as reader:
            assert (reader.frames([3]) == expected).all()


class Counting(PyAVDecoder):
    """Remembers what was opened."""

    opened: ClassVar[list[str]] = []

    def _open(self, path: str) -> VideoReader:
        self.opened.append(path)
        return super()._open(path)


class TestCached:
    def test_keeps_what_fits_and_drops_the_least_recently_used(self, tmp_path: Path) -> None:
        paths = [write_video(tmp_path / f"{k}.mp4", [counter_frame(k)] * 4, PLAIN) for k in range(3)]
        Counting.opened = []
        one_video = 4 * 48 * 64 * 3
        decoder = CachedDecoder(Counting(), max_bytes=2 * one_video)
        for k in (0, 1, 0, 2, 0, 1):
            with decoder.open(paths[k]) as reader:
                assert numbers_shown(reader.frames([0, 3])) == [k, k]
        assert Counting.opened == [paths[k] for k in (0, 1, 2, 1)]
        assert len(pickle.dumps(decoder)) < 1000

    def test_a_video_that_does_not_fit_is_read_without(self, counter_video: CounterVideo) -> None:
        decoder = CachedDecoder(PyAVDecoder(), max_bytes=1000)
        with decoder.open(counter_video(PLAIN, 30)) as reader:
            assert not isinstance(reader, CachedReader)
            assert numbers_shown(reader.frames([7])) == [7]
        with pytest.raises(ConfigError):
            CachedDecoder(PyAVDecoder(), max_bytes=0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_real_clip_is_read(decoder: str, test_videos: Path) -> None:
    make = DECODERS[decoder]()
    paths = sorted((test_videos / "real_clips").glob("*/*.mp4"))
    assert len(paths) == 40
    for path in paths if decoder != "cached" else paths[:4]:
        with make.open(str(path)) as reader:
            last = reader.info.num_frames - 1
            assert reader.read(View((0, last), (0, 0, 256, 256), (32, 32), False)).shape == (2, 32, 32, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_real_clips_are_those_of_a_sequential_decode(decoder: str, test_videos: Path) -> None:
    make = DECODERS[decoder]()
    for path in sorted((test_videos / "real_clips" / "val").glob("*.mp4"))[::3]:
        expected = sequential_frames(str(path))
        with make.open(str(path)) as reader:
            assert reader.info.num_frames == len(expected)
            indices = np.random.default_rng(len(expected)).integers(len(expected), size=4).tolist()
            frames = reader.frames(indices).astype(int)
        assert np.abs(frames - np.stack([expected[index] for index in indices])).max() <= 2


def test_decord_missing_is_said_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    from nlnet.data.decoders.decord import DecordDecoder

    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(ConfigError, match="pyav"):
        DecordDecoder()
