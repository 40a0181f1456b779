"""Broken and odd video files: training replaces and lists them, evaluation counts them, nothing crashes or hangs."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from nlnet.data.annotations import Video, VideoList
from nlnet.data.clips import EvalClips, TrainClips
from nlnet.data.crops import Three
from nlnet.data.decoders import Decoder
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.placement import Ends
from nlnet.data.transforms import EvalViews, TrainView
from tests.faults.processes import Case

SECONDS = 30  # for one file


def write_video(path: Path, *, frames: int = 40, codec: str = "mpeg4", audio: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(frames)
    with av.open(str(path), "w") as container:
        if audio:
            sound = container.add_stream("aac", rate=16000)
            wave = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            wave.sample_rate = 16000
            container.mux(sound.encode(wave))
            container.mux(sound.encode(None))
            return
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            image = generator.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def corpus(folder: Path, *, seed: int = 0) -> Iterator[Path]:
    """What a data set of a hundred thousand files holds, sooner or later."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for container in ("mp4", "avi", "mkv"):
        sound = folder / f"sound.{container}"
        write_video(sound)
        yield sound
        content = sound.read_bytes()
        hole = bytearray(content)
        start = len(hole) // 2
        hole[start : start + len(hole) // 10] = bytes(len(hole) // 10)
        scattered = bytearray(content)
        for _ in range(200):
            scattered[draw.randrange(len(scattered))] = draw.randrange(256)
        broken = {
            "half": content[: len(content) // 2],
            "tenth": content[: len(content) // 10],
            "last_byte_missing": content[:-1],
            "200_bytes": bytes(scattered),
            "hole": bytes(hole),
            "head": bytes(draw.randrange(256) for _ in range(512)) + content[512:],
            "twice": content + content,
        }
        for name, data in broken.items():
            path = folder / f"{name}.{container}"
            path.write_bytes(data)
            yield path
    others = {
        "empty.mp4": b"",
        "page.mp4": b"<html><head><title>404 Not Found</title></head></html>" * 30,
        "noise.mp4": bytes(draw.randrange(256) for _ in range(20_000)),
        "zeros.mp4": bytes(20_000),
        "text.avi": b"kein Video\n" * 100,
    }
    for name, data in others.items():
        (folder / name).write_bytes(data)
        yield folder / name
    write_video(folder / "one_frame.mp4", frames=1)
    yield folder / "one_frame.mp4"
    write_video(folder / "audio.mp4", audio=True)
    yield folder / "audio.mp4"
    (folder / "folder.mp4").mkdir()
    yield folder / "folder.mp4"
    yield folder / "missing.mp4"
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    yield folder / "loop.mp4"
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    yield folder / "dangling.mp4"
    os.mkfifo(folder / "pipe.mp4")
    yield folder / "pipe.mp4"
    yield Path("/dev/zero")


def attempts(path: Path, good: Path, decoder: Decoder) -> Iterator[Case]:
    """One file in a list of training beside a sound one, and in a list of a test."""
    videos = VideoList((Video(str(path), 0, "bad"), Video(str(good), 1, "good")), ("a", "b"), "list")
    kind = type(decoder).__name__
    clips = TrainClips(
        videos, decoder=decoder, view=TrainView(frames=4, stride=2, short_side=(40, 44), crop=32), seed=0
    )
    number = next(number for number in range(20) if clips.order(number) == 0)
    start = time.monotonic()
    sample = clips[number]
    replaced = sample.index == 1 and [index for index, _ in sample.bad] == [0] and sample.bad[0][1] != ""
    own = sample.index == 0 and not sample.bad
    right = sample.clip.shape == (4, 32, 32, 3) and (own or replaced) and sample.label == sample.index
    seen = f"video {sample.index}, replaced {sample.bad}"
    yield f"{path.name} in training, {kind}", right and time.monotonic() - start < SECONDS, seen

    views = EvalViews(frames=4, stride=2, clips=2, placement=Ends(), crops=Three(40, 32))
    start = time.monotonic()
    tested = EvalClips(videos, decoder=decoder, views=views)[0]
    right = tested.index == 0 and (len(tested.clips) == 6) == (tested.error is None)
    yield f"{path.name} in a test, {kind}", right and time.monotonic() - start < SECONDS, f"{tested.error}"


def decoders() -> list[Decoder]:
    found: list[Decoder] = [PyAVDecoder()]
    try:
        from nlnet.data.decoders.decord import DecordDecoder

        found.append(DecordDecoder())
    except Exception:  # not on every platform
        return found
    return found


def run_all(home: Path, *, full: bool = True) -> list[Case]:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    write_video(home / "good.mp4")
    cases: list[Case] = []
    files = list(corpus(home / "files"))
    for decoder in decoders() if full else decoders()[:1]:
        for path in files:
            try:
                cases += attempts(path, home / "good.mp4", decoder)
            except Exception as error:
                cases.append((f"{path.name}, {type(decoder).__name__}", False, f"{type(error).__name__}: {error}"))
    return cases
