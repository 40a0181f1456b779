"""Tiny training runs in processes that are forked from one with everything imported: a start costs milliseconds.

A run is the real trainer, checkpoints, loader, status and watch, around a small network with batch norm, dropout and a
non-local block, on clips [4, 16, 16, 3] that are a function of their video and of the number of their sample.
"""

import itertools
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch._dynamo  # what the first step of an optimiser would import, in each process anew
from omegaconf import OmegaConf
from torch import Tensor, nn

from nlnet import distributed
from nlnet.cli import train as train_command
from nlnet.data.annotations import Video, VideoList
from nlnet.data.clips import TrainClips
from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.data.loader import Readers, train_loader
from nlnet.data.transforms import TrainView
from nlnet.engine.bad_videos import BadVideos
from nlnet.engine.checkpoint import CheckpointFolder
from nlnet.engine.settings import Settings
from nlnet.engine.trainer import RunFiles, TrainData, Trainer
from nlnet.errors import NlnetError
from nlnet.loggers import RunLog
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.optim.groups import sgd
from nlnet.optim.schedules import Cosine

Case = tuple[str, bool, str]  # its name, whether it was survived, and what was seen
NUM_VIDEOS, CLASSES, BATCH = 24, 3, 8


class NoiseReader(VideoReader):
    """A "video" of noise that depends on its number and its frames alone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.info = VideoInfo(12, 18, 18, 25.0)

    def _decode(self, indices: list[int]) -> Frames:
        return np.stack(
            [np.random.default_rng([int(self.path), i]).integers(0, 256, (18, 18, 3), np.uint8) for i in indices]
        )

    def close(self) -> None:
        pass


class NoiseDecoder(Decoder):
    """``before`` is called in the process that decodes, with the number of the video."""

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.before = before

    def open(self, path: str) -> VideoReader:
        return self._open(path)

    def _open(self, path: str) -> VideoReader:
        self.before(int(path))
        return NoiseReader(path)


def noise_clips(before: Callable[[int], None] = lambda number: None) -> TrainClips:
    videos = VideoList(tuple(Video(str(k), k % CLASSES, str(k)) for k in range(NUM_VIDEOS)), ("a", "b", "c"), "noise")
    view = TrainView(frames=4, stride=2, short_side=(16, 18), crop=16)
    return TrainClips(videos, decoder=NoiseDecoder(before), view=view, seed=0)


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv3d(3, 16, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        NonLocalBlock(16, output=Output(scale_init=1.0)),
        nn.Conv3d(16, 32, (3, 3, 3), stride=(1, 2, 2), padding=1),
        nn.BatchNorm3d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d((2, 4, 4)),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 2 * 4 * 4, 96),
        nn.ReLU(),
        nn.Linear(96, CLASSES),
    )


def to_input(clips: Tensor) -> Tensor:
    return clips.permute(0, 4, 1, 2, 3).float() / 255 - 0.5


def nothing(trainer: Trainer) -> None:
    """A run to which nothing happens."""


@dataclass(frozen=True)
class TinyRun:
    """One run. ``harm`` gets the trainer in each process, before it trains: the place for faults."""

    folder: Path
    steps: int = 24
    every: int = 2  # steps between checkpoints
    workers: int = 0
    settings: dict[str, object] = field(default_factory=dict)
    step_timeout: float = 60.0
    keep: int = 2
    harm: Callable[[Trainer], None] = nothing
    before_decoding: Callable[[int], None] = lambda number: None
    tensorboard: bool = False
    validate: Callable[[], dict[str, float]] | None = None

    def trainer(self, watch: object = None) -> Trainer:
        chosen: dict[str, object] = {
            "epochs": self.steps * BATCH / NUM_VIDEOS,
            "batch_size": BATCH,
            "log_every": 3,
            "checkpoint_every": self.every * BATCH / NUM_VIDEOS,
            "max_nonfinite": 3,
            **self.settings,
        }
        settings = Settings(**chosen)  # type: ignore[arg-type]
        clips = noise_clips(self.before_decoding)
        log = RunLog(self.folder, tensorboard=self.tensorboard)

        def batches(first: int, last: int) -> object:
            return train_loader(
                clips,
                batch_size=BATCH,
                accumulate=settings.accumulate,
                start_step=first,
                steps=last,
                readers=Readers(self.workers, patience_s=5),
            )

        model = network()
        return Trainer(
            model,
            optimizer=sgd(model, batch_size=BATCH, lr=0.5),
            schedule=Cosine(warmup=0.2),
            settings=settings,
            data=TrainData(batches, to_input, NUM_VIDEOS),  # type: ignore[arg-type]
            files=RunFiles(
                log=log,
                checkpoints=CheckpointFolder(self.folder / "checkpoints", keep=self.keep, say=log.line),
                bad_videos=BadVideos([str(k) for k in range(NUM_VIDEOS)], max_fraction=0.5, folder=self.folder),
                card={"identity": "tiny"},
                **({"watch": watch} if watch is not None else {}),
            ),
            validate=self.validate,
            seed=3,
        )

    def __call__(self) -> int:
        """The run, as ``nlnet train`` would run it -> the exit code."""
        config = OmegaConf.create(
            {
                "runs": str(self.folder.parents[1]),
                "name": self.folder.parent.name,
                "seed": int(self.folder.name[1:]),
                "start_timeout": 60.0,
                "step_timeout": self.step_timeout,
            }
        )
        assert train_command.run_folder(config) == self.folder
        try:
            # The report is another matter, and takes longer than all the rest.
            with (
                mock.patch.object(train_command, "_write_report"),
                distributed.process_group(torch.device("cpu"), timeout_s=60),
                train_command.start_of(config) as (status, watch),
            ):
                distributed.on_main(lambda: self.folder.mkdir(parents=True, exist_ok=True))
                status.claim()
                trainer = self.trainer(watch)
                self.harm(trainer)
                trainer.fit()
        except NlnetError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 130
        return 0

    def weights(self) -> dict[str, Tensor]:
        """The last weights and the optimiser's momentum."""
        found = CheckpointFolder(self.folder / "checkpoints", say=lambda text: None).newest()
        assert found is not None
        state = found[1]
        assert state["step"] == self.steps, state["step"]
        momentum = {f"momentum {key}": value["momentum_buffer"] for key, value in state["optimizer"]["state"].items()}
        return {**state["model"], **momentum}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether all tensors are equal to the bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Processes:
    """The processes of one job, forked from this one."""

    def __init__(self, work: Callable[[], int], *, world: int, log: Path) -> None:
        port = _free_port()
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.pids = [self._fork(work, rank, world, port) for rank in range(world)]
        self.codes: dict[int, int] = {}

    def _fork(self, work: Callable[[], int], rank: int, world: int, port: int) -> int:
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.setsid()  # as torchrun starts its processes
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for stream in (1, 2):
                os.dup2(output, stream)
            sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            if world > 1:
                os.environ.update(
                    RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world)
                )
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self, timeout_s: float = 120.0) -> list[int]:
        """Exit codes in the order of ranks, negative for signals; what is left after the time is killed: -999."""
        deadline = time.monotonic() + timeout_s
        while len(self.codes) < len(self.pids):
            for pid in set(self.pids) - set(self.codes):
                late = time.monotonic() > deadline
                if late:
                    os.kill(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, 0 if late else os.WNOHANG)
                if ended:
                    self.codes[pid] = -999 if late else os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return [self.codes[pid] for pid in self.pids]

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def after(steps: int, *, rank: int, do: Callable[[], None], delay_s: float = 0.0) -> Callable[[Trainer], None]:
    """Harm: on one rank, ``do`` happens after so many steps of this start, ``delay_s`` into the next one."""

    def harm(trainer: Trainer) -> None:
        if distributed.rank() != rank:
            return
        take, done = trainer.train_step, itertools.count()

        def train_step(batches: object) -> None:
            if next(done) == steps:
                threading.Timer(delay_s, do).start() if delay_s else do()
            take(batches)  # type: ignore[arg-type]

        trainer.train_step = train_step  # type: ignore[method-assign, assignment]

    return harm


def kill_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
