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

from nlnet.data.decoders import Decoder, VideoInfo, VideoReader
from nlnet.data.decoders.cached import CachedDecoder, CachedReader
from nlnet.data.decoders.pyav import PyAVDecoder, PyAVReader
from nlnet.data.placement import AtRate, ClipAtRate, Ends, RandomClip
from nlnet.data.sampling import sample_generator
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


def torchcodec_decoder() -> Decoder:
    pytest.importorskip("torchcodec", reason="torchcodec is an optional extra")
    from nlnet.data.decoders.torchcodec import TorchCodecDecoder

    try:
        return TorchCodecDecoder()
    except ConfigError as error:
        pytest.skip(str(error))


DECODERS: dict[str, Callable[[], Decoder]] = {
    "pyav": PyAVDecoder,
    "decord": decord_decoder,
    "torchcodec": torchcodec_decoder,
    "cached": lambda: CachedDecoder(PyAVDecoder()),
}

# What the other backends do not read exactly, they refuse with a reason: (decoder, start of the encoding's name).
REFUSED = {
    ("decord", "ts"): "transport",
    ("decord", "mp4, av1"): "decord cannot read it",
    ("decord", "gif"): "decord cannot read it",
    **{("torchcodec", name): "torchcodec is exact in MP4/MOV" for name in ("avi", "mpg", "ts", "flv", "wmv")},
}


def refusal(decoder: str, encoding: str) -> str | None:
    """What the decoder is to say of such a file, if it does not read it."""
    return next(
        (reason for (who, what), reason in REFUSED.items() if who == decoder and encoding.startswith(what)), None
    )


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
        if num_frames == 1 and "hevc" in encoding:
            continue  # x265 sometimes writes invalid times for it
        path = counter_video(ENCODINGS[encoding], num_frames)
        if reason := refusal(decoder, encoding):
            with pytest.raises(VideoError, match=f"{reason}.*use data/decoder=pyav"):
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


def test_the_table_of_the_page_on_data_is_what_is_tested(repository: Path) -> None:
    lines = (repository / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = {row[0]: row[1:] for row in rows if row[0] in ENCODINGS}
    assert table == {
        name: ["refused" if refusal(decoder, name) else "exact" for decoder in ("pyav", "decord", "torchcodec")]
        for name in ENCODINGS
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_clip_by_time_has_the_frames_shown_then(decoder: str, encoding: str, counter_video: CounterVideo) -> None:
    """At 10 frames per second, by the time stamps that the frames were written with, 1/25 s apart or any other."""
    if refusal(decoder, encoding) or decoder == "cached":
        return
    with DECODERS[decoder]().open(counter_video(ENCODINGS[encoding], 83)) as reader:
        times = [ENCODINGS[encoding].times(number) - ENCODINGS[encoding].times(0) for number in range(83)]
        info = reader.info
        for number in range(10):
            clip = ClipAtRate(RandomClip(), 10)(info, 8, 2, sample_generator(number))
            if number == 0:
                (clip,) = AtRate(Ends(), 10)(info, 1, 8, 2)
            shown = numbers_shown(reader.frames(clip))
            assert shown == list(clip)
            if number == 0:
                continue
            # The clip starts at a multiple of 1/10 s, has a frame each 2/10 s, and each is the last one shown by then.
            end = times[-1] * 83 / 82
            grid = RandomClip()(VideoInfo(int((end / 25 + 0.001) * 10), 1, 1, 10.0), 8, 2, sample_generator(number))
            assert shown == [max(k for k in range(83) if times[k] <= tick * 2.5 + 0.025) for tick in grid]


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
    monkeypatch.delattr(PyAVReader, "_in_order")
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

    class Remembering(VideoReader):
        """As a backend that knows whole frames only."""

        def __init__(self, path: str) -> None:
            self.path = path
            self.reader = PyAVReader(path)
            self.info = self.reader.info

        def _decode(self, indices: list[int]) -> np.ndarray:
            decoded.extend(indices)
            return self.reader.frames(indices)

        def close(self) -> None:
            self.reader.close()

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
    for decoder in ("pyav", "decord", "cached"):
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
