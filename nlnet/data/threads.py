"""Samples read by threads: in each worker process, or in the training process itself without any worker.

Decoding, scaling and copying run outside Python's lock, so that threads do nearly what processes do, in one memory and
without a transfer. What a sample is does not depend on them: results come in the order of the keys.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Key], Result], keys: Iterable[Key], *, threads: int, ahead: int
) -> Generator[Result, None, None]:
    """``work`` of each key, in the order of the keys, at most ``ahead`` of them begun and not yet asked for.

    An error of ``work`` is raised where its result would come. Leaving early waits for what is being worked on.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="nlnet loader")
    try:
        for key in keys:
            waiting.append(pool.submit(work, key))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class ClipMemory:
    """Where the clips of one batch are put as they come: uint8 [b, T, H, W, C], pinned for copies to a GPU or not.

    ``given`` memory is taken if the clips are of its size.
    """

    def __init__(self, num_clips: int, *, pin: bool = False, given: Tensor | None = None) -> None:
        self._num_clips = num_clips
        self._pin = pin
        self._given = given
        self._lock = Lock()
        self._clips: Tensor | None = None

    def put(self, position: int, clip: Tensor) -> None:
        """Copy a clip [T, H, W, C], the first of which tells the size of all, to its place. For any thread."""
        with self._lock:
            if self._clips is None:
                shape = (self._num_clips, *clip.shape)
                if self._given is not None and self._given.shape == shape:
                    self._clips = self._given
                else:
                    self._clips = torch.empty(shape, dtype=clip.dtype, pin_memory=self._pin)
        self._clips[position].copy_(clip)

    @property
    def clips(self) -> Tensor:
        """All of them. ValueError before the first."""
        if self._clips is None:
            raise ValueError("no clip was put in yet")
        return self._clips
