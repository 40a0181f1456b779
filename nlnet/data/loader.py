"""Batches by worker processes. Which samples a step has depends on its number only, not on workers or ranks.

Axes: b clips of one micro-batch, T time, H height, W width, C channels; K classes.
"""

import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from nlnet.data.annotations import Label
from nlnet.data.clips import EvalClips, EvalSample, TrainClips, TrainSample
from nlnet.data.pixels import Change, changed
from nlnet.distributed import rank, world_size
from nlnet.errors import ConfigError


class TrainBatch(NamedTuple):
    """One micro-batch."""

    clips: Tensor  # uint8 [b, T, H, W, C]
    labels: Tensor  # int64 [b], or where a video may have several: float32 [b, K] of 0 and 1
    indices: Tensor  # int64 [b], of the videos in the list
    bad: list[tuple[int, str]]  # videos that were replaced, in this batch: index, reason
    numbers: Tensor  # int64 [b], of the samples
    changes: list[tuple[Change, ...]]  # of the pixels of each clip, for the device that trains; mostly none


class MicroBatches(Sampler[list[int]]):
    """The sample numbers of this rank: ``accumulate`` lists per step, for steps start_step to steps - 1.

    Step s has the samples s * batch_size to (s + 1) * batch_size - 1. Each rank takes a contiguous share of them, and
    cuts it into ``accumulate`` equal parts.
    """

    def __init__(self, *, batch_size: int, accumulate: int, start_step: int, steps: int) -> None:
        if batch_size < 1 or accumulate < 1:
            raise ConfigError(f"batch_size and accumulate must be at least 1, not {batch_size} and {accumulate}")
        parts = world_size() * accumulate
        if batch_size % parts:
            nearest = max(1, batch_size // parts) * parts
            raise ConfigError(
                f"trainer.batch_size={batch_size} is the global batch and must be a multiple of "
                f"processes x accumulate = {world_size()} x {accumulate}; set trainer.batch_size={nearest}"
            )
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.start_step = start_step
        self.steps = steps
        self.rank = rank()
        self.size = batch_size // parts

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step) * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.steps):
            for part in range(self.accumulate):
                first = step * self.batch_size + (self.rank * self.accumulate + part) * self.size
                yield list(range(first, first + self.size))


def train_loader(
    clips: TrainClips,
    *,
    batch_size: int,
    start_step: int,
    steps: int,
    accumulate: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> DataLoader[TrainSample]:
    """A loader of TrainBatch, ``accumulate`` of them per step, from step ``start_step`` up to the last, ``steps`` - 1.

    ``batch_size`` is the global one. One iterator serves the whole run: make it once. ``start_method`` is how worker
    processes start (fork, spawn, forkserver; None for the platform's own).
    """
    return DataLoader(
        clips,
        batch_sampler=MicroBatches(batch_size=batch_size, accumulate=accumulate, start_step=start_step, steps=steps),
        num_workers=workers,
        collate_fn=partial(collate, num_classes=len(clips.videos.classes)),
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=start_method if workers else None,
        # Without one, making the iterator draws from the global generator, and resuming is no longer exact.
        generator=torch.Generator(),
    )


def eval_loader(clips: EvalClips, *, workers: int = 0, start_method: str | None = None) -> DataLoader[EvalSample]:
    """A loader of EvalSample, one video each: those of this rank. Over all ranks each video comes exactly once."""
    return DataLoader(
        clips,
        batch_size=None,
        sampler=range(rank(), len(clips), world_size()),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        multiprocessing_context=start_method if workers else None,
        # A test sample holds all views of a video: more than one ahead per worker would only fill the memory.
        prefetch_factor=1 if workers else None,
        generator=torch.Generator(),
    )


def targets(labels: Sequence[Label], *, num_classes: int) -> Tensor:
    """Labels as a loss takes them: b numbers -> int64 [b]; b tuples of numbers -> float32 [b, K], 1 where shown."""
    if not any(isinstance(label, tuple) for label in labels):
        return torch.tensor(labels)
    shown_bK = torch.zeros(len(labels), num_classes)
    for row_K, label in zip(shown_bK, labels, strict=True):
        row_K[[label] if isinstance(label, int) else list(label)] = 1
    return shown_bK


def collate(samples: list[TrainSample], *, num_classes: int) -> TrainBatch:
    """Samples of one micro-batch -> TrainBatch."""
    return TrainBatch(
        torch.stack([sample.clip for sample in samples]),
        targets([sample.label for sample in samples], num_classes=num_classes),
        torch.tensor([sample.index for sample in samples]),
        [bad for sample in samples for bad in sample.bad],
        torch.tensor([sample.number for sample in samples]),
        [sample.changes for sample in samples],
    )


def change_pixels(clips: Tensor, batch: TrainBatch) -> Tensor:
    """Makes the changes of a batch that were left to the device: uint8 [b, T, H, W, C] there -> the same."""
    if not any(batch.changes):
        return clips
    return torch.stack([changed(clip, changes) for clip, changes in zip(clips, batch.changes, strict=True)])


def _as_it_is(sample: Any) -> Any:
    return sample


def _start_worker(worker: int) -> None:
    """Set up a worker process: one thread each, and Ctrl-C is for the main process, which then ends the workers."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
