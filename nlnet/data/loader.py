"""Batches by processes and threads. Which samples a step has depends on its number only, not on these or on ranks.

Axes: b clips of one micro-batch, T time, H height, W width, C channels; K classes.
"""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from nlnet.data.annotations import Label
from nlnet.data.clips import EvalClips, EvalSample, TrainClips, TrainSample
from nlnet.data.pixels import Change, changed
from nlnet.data.shared import Request, Requests, SharedPlaces
from nlnet.data.threads import ClipMemory, in_order
from nlnet.data.workers import POLL_S, LastingLoader, keep_freed_memory
from nlnet.distributed import rank, world_size
from nlnet.errors import ConfigError

_BATCHES_AHEAD = 2  # of the threads in the training process, and of each worker


@dataclass(frozen=True)
class Readers:
    """Who reads: ``workers`` processes with ``threads`` threads each; without workers, threads of this process.

    Neither: each batch is read when it is asked for. ``start_method`` is how worker processes start (fork, spawn,
    forkserver; None for the platform's own). ``patience_s`` is the longest wait for a batch before the workers are
    taken for hung and started anew; None for no limit.
    """

    workers: int = 0
    threads: int = 0
    start_method: str | None = None
    patience_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or more")

    def options(self, *, ahead: int | None, alone: bool) -> dict[str, Any]:
        """The arguments of ``DataLoader`` that are about processes.

        Args:
            ahead: what each reads ahead; None for PyTorch's own choice.
            alone: one worker, which reads nothing ahead.
        """
        return {
            "num_workers": min(self.workers, 1) if alone else self.workers,
            "prefetch_factor": (1 if alone else ahead) if self.workers else None,
            "worker_init_fn": _start_worker,
            "multiprocessing_context": self.start_method if self.workers else None,
            "timeout": POLL_S if self.workers else 0,
            # Without one, making the iterator draws from the global generator, and resuming is no longer exact.
            "generator": torch.Generator(),
        }


class TrainBatch(NamedTuple):
    """One micro-batch."""

    clips: Tensor  # uint8 [b, T, H, W, C]
    labels: Tensor  # int64 [b], or where a video may have several: float32 [b, K] of 0 and 1
    indices: Tensor  # int64 [b], of the videos in the list
    bad: list[tuple[int, str]]  # videos that were replaced, in this batch: index, reason
    numbers: Tensor  # int64 [b], of the samples
    changes: list[tuple[Change, ...]]  # of the pixels of each clip, for the device that trains; mostly none


def shares(batch_size: int, *, processes: int, accumulate: int) -> int:
    """How many micro-batches of equal size a step is cut into, over all processes.

    Raises:
        ConfigError: they would not be equal.
    """
    if batch_size < 1 or accumulate < 1:
        raise ConfigError(f"batch_size and accumulate must be at least 1, not {batch_size} and {accumulate}")
    parts = processes * accumulate
    if batch_size % parts:
        nearest = max(1, batch_size // parts) * parts
        raise ConfigError(
            f"trainer.batch_size={batch_size} is the global batch and must be a multiple of "
            f"processes x accumulate = {processes} x {accumulate}; set trainer.batch_size={nearest}"
        )
    return parts


class MicroBatches(Sampler[list[int]]):
    """The sample numbers of this rank: ``accumulate`` lists per step, for steps start_step to steps - 1.

    The first ``skip`` lists are left out. Step s has the samples s * batch_size to (s + 1) * batch_size - 1. Each rank
    takes a contiguous share of them, and cuts it into ``accumulate`` equal parts.
    """

    def __init__(self, *, batch_size: int, accumulate: int, start_step: int, steps: int, skip: int = 0) -> None:
        parts = shares(batch_size, processes=world_size(), accumulate=accumulate)
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.start_step = start_step
        self.steps = steps
        self.rank = rank()
        self.size = batch_size // parts
        self.skip = skip

    def __len__(self) -> int:
        return max(0, (self.steps - self.start_step) * self.accumulate - self.skip)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.samples, range(self.skip, self.skip + len(self)))

    def samples(self, batch: int) -> list[int]:
        """The sample numbers of the batch with this number, from 0 at ``start_step``."""
        steps, part = divmod(batch, self.accumulate)
        first = (self.start_step + steps) * self.batch_size + (self.rank * self.accumulate + part) * self.size
        return list(range(first, first + self.size))


def train_loader(
    clips: TrainClips,
    *,
    batch_size: int,
    start_step: int,
    steps: int,
    accumulate: int = 1,
    readers: Readers | None = None,
    pin_memory: bool = False,
) -> "LastingLoader[TrainBatch] | ThreadLoader":
    """A loader of TrainBatch, ``accumulate`` of them per step, from step ``start_step`` up to the last, ``steps`` - 1.

    ``batch_size`` is the global one. One iterator serves the whole run: make it once.
    """
    read = readers or Readers()

    def batches(skip: int) -> MicroBatches:
        return MicroBatches(batch_size=batch_size, accumulate=accumulate, start_step=start_step, steps=steps, skip=skip)

    if read.threads and not read.workers:
        return ThreadLoader(clips, batches(0), threads=read.threads, pin_memory=pin_memory)

    def make(delivered: int, alone: bool) -> DataLoader[Any]:
        wanted = batches(delivered)
        if not read.workers:
            collated = partial(collate, num_classes=len(clips.videos.classes))
            options = read.options(ahead=None, alone=alone)
            return DataLoader(clips, batch_sampler=wanted, collate_fn=collated, pin_memory=pin_memory, **options)
        # What the workers hold ready, the batch that trains, and the next one.
        places = SharedPlaces(_BATCHES_AHEAD * read.workers + 2, (wanted.size, *clips.clip_shape))
        return DataLoader(
            WorkerClips(clips, read.threads, places),
            batch_sampler=Requests(wanted, places),
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            **read.options(ahead=_BATCHES_AHEAD, alone=alone),
        )

    def describe(batch: int) -> str:
        samples = batches(0).samples(batch)
        return f"the samples {samples[0]} to {samples[-1]}: {', '.join(map(clips.path_of, samples[:8]))}"

    return LastingLoader(make, patience_s=read.patience_s, describe=describe)


def eval_loader(clips: EvalClips, *, readers: Readers | None = None) -> "LastingLoader[EvalSample] | EvalThreadLoader":
    """A loader of EvalSample, one video each: those of this rank. Over all ranks each video comes exactly once.

    A worker reads one video at a time, without threads, which would have nothing to share.
    """
    read = readers or Readers()
    shown = range(rank(), len(clips), world_size())
    if read.threads and not read.workers:
        return EvalThreadLoader(clips, shown, read.threads)

    def make(delivered: int, alone: bool) -> DataLoader[EvalSample]:
        return DataLoader(
            clips,
            batch_size=None,
            sampler=shown[delivered:],
            collate_fn=_as_it_is,
            # A test sample holds all views of a video: more than one ahead per worker would only fill the memory.
            **read.options(ahead=1, alone=alone),
        )

    return LastingLoader(
        make, patience_s=read.patience_s, describe=lambda place: clips.videos.videos[shown[place]].path
    )


class _Place(NamedTuple):
    """Samples of one video, and where in their batch their clips belong."""

    numbers: list[int]
    memory: ClipMemory
    position: int


def _places_of(clips: TrainClips, numbers: Sequence[int], memory: ClipMemory) -> Iterator[_Place]:
    position = 0
    for together in clips.of_one_video(numbers):
        yield _Place(together, memory, position)
        position += len(together)


def _read_into(clips: TrainClips, place: _Place) -> list[TrainSample]:
    """Reads the samples of a place and puts their clips there."""
    samples = clips.__getitems__(place.numbers)
    for position, sample in enumerate(samples, start=place.position):
        place.memory.put(position, sample.clip)
    return samples


class ThreadLoader:
    """Training batches read ahead by threads of this process, each clip put into the (pinned) batch as it comes."""

    def __init__(self, clips: TrainClips, batches: MicroBatches, *, threads: int, pin_memory: bool) -> None:
        self.clips = clips
        self.batches = batches
        self.threads = threads
        self.pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TrainBatch]:
        def places() -> Iterator[_Place]:
            for numbers in self.batches:
                yield from _places_of(self.clips, numbers, ClipMemory(len(numbers), pin=self.pin_memory))

        def read(place: _Place) -> tuple[list[TrainSample], ClipMemory]:
            return _read_into(self.clips, place), place.memory

        ahead = max(self.threads, _BATCHES_AHEAD * self.batches.size)
        results = in_order(read, places(), threads=self.threads, ahead=ahead)
        try:
            samples: list[TrainSample] = []
            for read_now, memory in results:
                samples += read_now
                if len(samples) == self.batches.size:
                    yield collate(samples, num_classes=len(self.clips.videos.classes), clips=memory.clips)
                    samples = []
        finally:
            results.close()


class WorkerClips(Dataset[TrainBatch]):
    """Whole training batches, read in a worker process: by one thread, or by several at the same time."""

    def __init__(self, clips: TrainClips, threads: int, places: SharedPlaces) -> None:
        self.clips = clips
        self.threads = threads
        self.places = places
        self._pool: ThreadPoolExecutor | None = None

    def __getitems__(self, request: Request) -> Any:
        given = None if request.place is None else self.places[request.place]
        memory = ClipMemory(len(request.numbers), given=given)
        if self.threads > 1:
            self._pool = self._pool or ThreadPoolExecutor(self.threads, thread_name_prefix="nlnet loader")
        each = self._pool.map if self._pool else map
        groups = each(partial(_read_into, self.clips), _places_of(self.clips, request.numbers, memory))
        samples = [sample for group in groups for sample in group]
        batch = collate(samples, num_classes=len(self.clips.videos.classes), clips=memory.clips)
        return self.places.sent(batch, request.place)

    def __getstate__(self) -> dict[str, Any]:
        """Without the threads: each process has its own."""
        return {**self.__dict__, "_pool": None}


class EvalThreadLoader:
    """Test samples read ahead by threads of this process."""

    def __init__(self, clips: EvalClips, shown: range, threads: int) -> None:
        self.clips = clips
        self.shown = shown
        self.threads = threads

    def __len__(self) -> int:
        return len(self.shown)

    def __iter__(self) -> Iterator[EvalSample]:
        return in_order(self.clips.__getitem__, self.shown, threads=self.threads, ahead=self.threads + 1)


def targets(labels: Sequence[Label], *, num_classes: int) -> Tensor:
    """Labels as a loss takes them: b numbers -> int64 [b]; b tuples of numbers -> float32 [b, K], 1 where shown."""
    if not any(isinstance(label, tuple) for label in labels):
        return torch.tensor(labels)
    shown_bK = torch.zeros(len(labels), num_classes)
    for row_K, label in zip(shown_bK, labels, strict=True):
        row_K[[label] if isinstance(label, int) else list(label)] = 1
    return shown_bK


def collate(samples: list[TrainSample], *, num_classes: int, clips: Tensor | None = None) -> TrainBatch:
    """Samples of one micro-batch -> TrainBatch; ``clips`` where these are together already."""
    return TrainBatch(
        # torch's own puts them straight into shared memory where this is a worker process.
        default_collate([sample.clip for sample in samples]) if clips is None else clips,
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
    """Set up a worker process: one thread each; signals to all of them are for the main process, which ends them."""
    torch.set_num_threads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the process that it was forked from
