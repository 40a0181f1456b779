"""Where the time of a training clip goes, stage by stage, and what re-encoding the videos would change."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from nlnet.benchmark.sample_videos import encode
from nlnet.data.clips import TrainClips
from nlnet.data.decoders import Decoder, Frames, VideoReader
from nlnet.data.decoders.pyav import PyAVReader
from nlnet.data.decoders.pyav_index import IndexCache
from nlnet.data.loader import collate
from nlnet.data.sampling import sample_generator
from nlnet.data.workers import keep_freed_memory
from nlnet.errors import VideoError

KEY_EVERY = 30  # frames; below it nothing more is won
_WARM_UP = 3  # clips
_FILES = 4  # re-encoded for the comparison


class _Clock(Decoder):
    """PyAV with a watch on opening, decoding and all of reading."""

    def __init__(self) -> None:
        self.indices = IndexCache()
        self.opening = self.decoding = self.reading = 0.0

    def _open(self, path: str) -> VideoReader:
        start = time.perf_counter()
        reader = _ClockedReader(path, self)
        self.opening += time.perf_counter() - start
        return reader


class _ClockedReader(PyAVReader):
    def __init__(self, path: str, clock: _Clock) -> None:
        self._clock = clock
        super().__init__(path, clock.indices)

    def _wanted(self, indices: list[int]) -> Iterator[tuple[int, Any]]:
        frames = super()._wanted(indices)
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            self._clock.decoding += time.perf_counter() - start
            if frame is None:
                return
            yield frame

    def read_all(self, views: Any, *, max_bytes: int = 1 << 29) -> list[Frames]:
        start = time.perf_counter()
        clips = super().read_all(views, max_bytes=max_bytes)
        self._clock.reading += time.perf_counter() - start
        return clips


def stages(clips: TrainClips, *, batch: int, batches: int) -> dict[str, float]:
    """Milliseconds a clip in each stage, by PyAV in one thread as in a worker, the tables of the files known."""
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clock = _Clock()
    plain, clips.decoder = clips.decoder, clock
    try:
        for number in range(batch * batches):
            _ = clips[number]  # fills the tables
        clock.opening = clock.decoding = clock.reading = 0.0
        sampling = collating = moving = 0.0
        place = torch.empty(batch, *clips.clip_shape, dtype=torch.uint8)  # used again, as by the loader
        for part in range(batches):
            start = time.perf_counter()
            samples = [clips[number] for number in range(part * batch, part * batch + batch)]
            sampled = time.perf_counter()
            torch.stack([sample.clip for sample in samples], out=place)
            collate(samples, num_classes=len(clips.videos.classes), clips=place)
            collated = time.perf_counter()
            if torch.cuda.is_available():
                place.pin_memory().to("cuda", non_blocking=True)
                torch.cuda.synchronize()
            moving += time.perf_counter() - collated
            collating += collated - sampled
            sampling += sampled - start
    finally:
        clips.decoder = plain
        torch.set_num_threads(threads)
    seconds = {
        "open": clock.opening,
        "decode": clock.decoding,
        "convert": clock.reading - clock.decoding,  # crop, RGB, scale, mirror
        "augment": sampling - clock.opening - clock.reading,  # drawing views, and what changes pixels after that
        "collate": collating,
        "transfer": moving,  # to a GPU; without one, a batch stays where it is
    }
    return {name: 1000 * value / (batch * batches) for name, value in seconds.items()}


def cost_alone(pipelines: Mapping[str, Dataset[Any]], *, number: int) -> dict[str, float]:
    """Milliseconds of processor time a clip takes in one thread, each clip by one pipeline after the other.

    Unlike clips/s it hardly depends on what else the machine does.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = dict.fromkeys(pipelines, 0.0)
    for sample in range(-_WARM_UP, number):
        for name, pipeline in pipelines.items():
            start = time.process_time()
            _ = pipeline[sample % number]
            seconds[name] += time.process_time() - start if sample >= 0 else 0.0
    torch.set_num_threads(threads)
    return {name: 1000 * value / number for name, value in seconds.items()}


def reencoded(clips: TrainClips, folder: Path, *, whole: float, decode: float) -> list[str]:
    """What re-encoding some of the videos with a key frame every 30 frames changes -> lines for people.

    Args:
        whole, decode: milliseconds a clip takes, and decoding of it, for all videos.
    """
    before = after = 0.0
    old_bytes = new_bytes = 0
    for position, video in enumerate(clips.videos.videos[:: max(1, len(clips.videos) // _FILES)][:_FILES]):
        copy = folder / f"again{position}.mp4"
        with suppress(VideoError):
            with PyAVReader(video.path) as reader:
                rate = round(reader.info.frames_per_second) or 30
                whole_frames = reader.frames(range(reader.info.num_frames))
            encode(copy, iter(whole_frames), key_every=KEY_EVERY, rate=rate)
            old_bytes += Path(video.path).stat().st_size
            new_bytes += copy.stat().st_size
            before += _decoding_time(video.path, clips)
            after += _decoding_time(str(copy), clips)
    if not before:
        return ["re-encoding: none of the videos that were tried can be decoded"]
    gain = whole / (whole - decode * (1 - after / before))
    pays = "pays" if gain > 1.1 else "does not pay"
    return [
        f"re-encoding with a key frame every {KEY_EVERY} frames {pays}: decoding takes {after / before:.2f} of the "
        f"time, a clip {1 / gain:.2f}, for {new_bytes / old_bytes:.2f} times the bytes (nlnet data resize does it)"
    ]


def _decoding_time(path: str, clips: TrainClips) -> float:
    """Seconds that decoding takes for some views of a video."""
    clock = _Clock()
    for number in range(9):
        with clock.open(path) as reader:
            reader.read(clips.view(reader.info, sample_generator(clips.seed, number)))
        if number == 0:
            clock.decoding = 0.0
    return clock.decoding
