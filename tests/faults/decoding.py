"""Decoding processes that die, hang or fail: the same batches come, or one clear error."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nlnet.data.clips import EvalClips
from nlnet.data.crops import Three
from nlnet.data.loader import Readers, eval_loader, train_loader
from nlnet.data.placement import Ends
from nlnet.data.transforms import EvalViews
from nlnet.errors import DataError
from tests.faults.processes import BATCH, Case, NoiseDecoder, noise_clips

BATCHES = 8


def hang() -> None:
    time.sleep(3600)


WAYS: dict[str, Callable[[], None]] = {
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "a segmentation fault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "a bus error (/dev/shm is full)": lambda: os.kill(os.getpid(), signal.SIGBUS),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "os._exit(1)": lambda: os._exit(1),
    "os._exit(0)": lambda: os._exit(0),
    "an endless wait": hang,
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def once(marker: Path, video: int, harm: Callable[[], None]) -> Callable[[int], None]:
    """``harm`` where this video is decoded for the first time."""

    def before(number: int) -> None:
        if number == video and not marker.exists():
            marker.touch()
            harm()

    return before


def train_batches(before: Callable[[int], None], workers: int) -> list[torch.Tensor]:
    loader = train_loader(
        noise_clips(before), batch_size=BATCH, start_step=0, steps=BATCHES, readers=Readers(workers, patience_s=3)
    )
    return [batch.clips for batch in loader]


def read_test(before: Callable[[int], None], workers: int) -> list[torch.Tensor]:
    views = EvalViews(frames=2, stride=1, clips=2, placement=Ends(), crops=Three(18, 16))
    clips = EvalClips(noise_clips().videos, decoder=NoiseDecoder(before), views=views)
    return [torch.stack(sample.clips) for sample in eval_loader(clips, readers=Readers(workers, patience_s=3))]


def survived(home: Path, way: str, video: int, *, workers: int, test: bool) -> Case:
    name = f"{way} of one of {workers} workers at video {video}, {'test' if test else 'training'}"
    marker = home / name.replace(" ", "_").replace("/", "_")
    read = read_test if test else train_batches
    expected = read(lambda number: None, 0)
    got = read(once(marker, video, WAYS[way]), workers)
    right = len(got) == len(expected) and all(map(torch.equal, got, expected))
    return name, right and marker.exists(), f"{len(got)} of {len(expected)} batches"


def stopped_behind_a_batch(home: Path) -> Case:
    """Stopped while a batch that it has read waits to be taken, whose memory it must hand over itself."""
    marker = home / "stopped_behind_a_batch"
    decoded: list[int] = []  # by the worker

    def before(number: int) -> None:
        decoded.append(number)
        if len(decoded) > 2 * BATCH and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGSTOP)

    readers = Readers(1, patience_s=3)
    batches = iter(train_loader(noise_clips(before), batch_size=BATCH, start_step=0, steps=BATCHES, readers=readers))
    got = [next(batches).clips]
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    got += [batch.clips for batch in batches]
    expected = train_batches(lambda video: None, 0)
    right = len(got) == len(expected) and all(map(torch.equal, got, expected))
    return "SIGSTOP with a batch to hand over", right and marker.exists(), f"{len(got)} of {len(expected)} batches"


def gives_up(way: str) -> Case:
    """What fails each time ends in an error that names the videos of the batch."""

    def before(number: int) -> None:
        if number == 5:
            WAYS[way]()

    try:
        train_batches(before, 2)
    except DataError as error:
        text = str(error)
        return f"{way} each time", "at the same batch" in text and " 5" in text and "\n" not in text, text
    return f"{way} each time", False, "no error"


def own_error(kind: type[Exception]) -> Case:
    """An error that decoding raises is no death of a worker: it comes through at once."""

    def before(number: int) -> None:
        if number == 5:
            raise kind("by design")

    start = time.monotonic()
    try:
        train_batches(before, 2)
    except kind as error:
        return f"{kind.__name__} in a worker", "by design" in str(error) and time.monotonic() - start < 60, ""
    return f"{kind.__name__} in a worker", False, "no error"


def ignored(home: Path, number: int) -> Case:
    """Signals that a scheduler or a terminal sends to all processes do not end a worker."""
    name = signal.Signals(number).name
    marker = home / f"ignored-{name}"
    expected = train_batches(lambda video: None, 0)
    got = train_batches(once(marker, 5, lambda: os.kill(os.getpid(), number)), 2)
    return f"{name} to a worker", marker.exists() and all(map(torch.equal, got, expected)), ""


def run_all(home: Path, *, ways: int = 8, full: bool = True) -> list[Case]:
    home.mkdir(parents=True, exist_ok=True)
    quick = [way for way in WAYS if way not in ("an endless wait", "SIGSTOP")]
    cases = []
    for way in list(WAYS)[:ways]:
        for workers in (1, 3) if full else (2,):
            for test in (False, True):
                videos = (5, 17, 23) if full and way in quick else (5,)
                cases += [survived(home, way, video, workers=workers, test=test) for video in videos]
    cases += [stopped_behind_a_batch(home)]
    cases += [gives_up(way) for way in (quick if full else quick[:1])]
    cases += [own_error(kind) for kind in (MemoryError, ValueError, OSError, RuntimeError)]
    cases += [ignored(home, number) for number in (signal.SIGINT, signal.SIGUSR1)]
    return cases
