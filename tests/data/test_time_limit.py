"""No file makes a run stand still: what takes too long is a bad video like any other."""

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nlnet.config.compose import compose
from nlnet.config.evaluation import build_decoder
from nlnet.data.annotations import Video, VideoList
from nlnet.data.clips import EvalClips, TrainClips
from nlnet.data.crops import Centre
from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.data.decoders.pyav import PyAVDecoder, PyAVReader
from nlnet.data.decoders.time_limit import LimitedDecoder, check_time
from nlnet.data.placement import Ends
from nlnet.data.transforms import EvalViews, TrainView, View
from nlnet.errors import ConfigError, VideoError
from tests.data.conftest import PLAIN, Encoding, numbers_shown

CounterVideo = Callable[[Encoding, int], str]


class StuckReader(VideoReader):
    """A call into a library that never comes back, until the test lets it go."""

    released = threading.Event()

    def __init__(self, path: str) -> None:
        self.path = path
        self.info = VideoInfo(9, 12, 16, 25.0)
        if "open" in path:
            self.released.wait()

    def _decode(self, indices: list[int]) -> Frames:
        if "read" in self.path:
            self.released.wait()
        return np.zeros((len(indices), 12, 16, 3), np.uint8)

    def close(self) -> None:
        assert "stuck" not in self.path  # its thread still uses it


class StuckDecoder(Decoder):
    def open(self, path: str) -> VideoReader:
        return self._open(path)

    def _open(self, path: str) -> VideoReader:
        return StuckReader(path)


@pytest.fixture
def stuck() -> Decoder:
    StuckReader.released.clear()
    yield StuckDecoder()
    StuckReader.released.set()


def test_a_call_that_never_comes_back_is_left_behind(stuck: Decoder) -> None:
    decoder = LimitedDecoder(stuck, 0.05)
    with pytest.raises(VideoError, match=r"stuck at open: not decoded within 0.05 s; .*max_seconds_per_video"):
        decoder.open("stuck at open")
    with decoder.open("stuck at read") as reader, pytest.raises(VideoError, match="not decoded within"):
        reader.frames([1])
    with pytest.raises(VideoError, match="closed"):
        reader.read(View((0,), (0, 0, 12, 16), (12, 16)))
    with decoder.open("fine") as reader:
        assert reader.read(View((0, 1), (0, 0, 12, 16), (12, 16))).shape == (2, 12, 16, 3)


def test_training_replaces_what_takes_too_long_and_tests_report_it(stuck: Decoder) -> None:
    videos = VideoList((Video("stuck at read", 0, "a"), Video("fine", 1, "b")), ("x", "y"), "here")
    decoder = LimitedDecoder(stuck, 0.05)
    view = TrainView(frames=2, stride=1, short_side=(12, 12), crop=8)
    samples = [TrainClips(videos, decoder=decoder, view=view, seed=0)[number] for number in range(2)]
    assert [sample.index for sample in samples] == [1, 1]
    assert sorted(len(sample.bad) for sample in samples) == [0, 1]
    views = EvalViews(frames=2, stride=1, clips=1, placement=Ends(), crops=Centre(12, 8))
    tests = EvalClips(videos, decoder=decoder, views=views)
    assert [tests[index].error is None for index in range(2)] == [False, True]


def test_slow_decoding_ends_by_itself(counter_video: CounterVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose every frame takes long: the thread stops at the limit and can be used again."""
    path = counter_video(PLAIN, 83)
    frames_of = PyAVReader._frames_of
    ended = threading.Event()

    def slow(reader: PyAVReader, packet: object) -> list[object]:
        time.sleep(0.1)
        try:
            check_time("a")
        except VideoError:
            ended.set()
            raise
        return frames_of(reader, packet)

    monkeypatch.setattr(PyAVReader, "_frames_of", slow)
    monkeypatch.setattr(PyAVReader, "_seeks_by_time", lambda reader: False)
    with LimitedDecoder(PyAVDecoder(), 3).open(path) as reader, pytest.raises(VideoError, match="not decoded within"):
        reader.frames([80])
    assert ended.wait(20) or not any("decoding" in thread.name for thread in threading.enumerate())


def test_what_is_read_in_time_is_as_without_a_limit(counter_video: CounterVideo) -> None:
    path = counter_video(PLAIN, 83)
    view = View((3, 1), (5, 3, 40, 40), (17, 13), flip=True)
    limited, plain = LimitedDecoder(PyAVDecoder(), 60), PyAVDecoder()
    threads = set()
    for _ in range(5):
        with limited.open(path) as reader, plain.open(path) as other:
            assert numbers_shown(reader.frames([7, 80])) == [7, 80]
            assert (reader.read(view) == other.read(view)).all()
            assert (reader.read_all([view, view])[1] == other.read(view)).all()
            held = weakref.ref(reader._reader)
        threads |= {thread.ident for thread in threading.enumerate()}
    assert len(threads) <= threading.active_count() + 1  # threads are used again
    del reader, other
    gc.collect()
    assert held() is None
    with pytest.raises(VideoError, match="no such file"):
        limited.open("missing.mp4")
    with limited.open(path) as reader, pytest.raises(IndexError):
        reader.frames([83])
    with pytest.raises(ConfigError, match="max_seconds_per_video"):
        LimitedDecoder(PyAVDecoder(), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_forked_processes_start_their_own_threads(counter_video: CounterVideo) -> None:
    decoder = LimitedDecoder(PyAVDecoder(), 60)
    path = counter_video(PLAIN, 30)
    with decoder.open(path) as reader:
        reader.frames([0])
    child = os.fork()
    if not child:
        status = 1
        try:
            with decoder.open(path) as reader:
                status = 0 if numbers_shown(reader.frames([7])) == [7] else 1
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_the_limit_is_an_option(tmp_path: Path) -> None:
    config = compose("train", ["data=folder", f"data.root={tmp_path}"])
    decoder = build_decoder(config.data)
    assert isinstance(decoder, LimitedDecoder)
    assert decoder.seconds == 300
    config = compose("train", ["data=folder", f"data.root={tmp_path}", "data.max_seconds_per_video=null"])
    assert isinstance(build_decoder(config.data), PyAVDecoder)
