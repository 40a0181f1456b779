"""Decoding processes that die or hang cost no run: the loader is started anew at the batch that is due.

Which samples a batch has depends on its number only, so that nothing else changes.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from torch.utils.data import DataLoader

from nlnet.errors import DataError

Item = TypeVar("Item")
MAX_RESTARTS = 3  # for one and the same batch
POLL_S = 2  # how soon a dead worker is noticed


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


class LastingLoader(Generic[Item]):
    """The batches of a ``DataLoader``, whatever happens to its workers.

    PyTorch lets the death of a worker interrupt the main process wherever it is, in the middle of a step too. Here it
    is noticed while waiting for a batch, and nowhere else.

    Args:
        make: number of batches to leave out, whether the first of the rest is wanted alone (one worker that reads
            nothing ahead) -> a loader of the rest, with ``timeout=POLL_S`` where it has workers.
        patience_s: how long one batch may take before the workers are taken for hung; None for ever.
        describe: number of a batch -> what it is made of, for people.
        say: told of each restart.

    Raises:
        DataError: the same batch fails once more than MAX_RESTARTS times.
    """

    def __init__(
        self,
        make: Callable[[int, bool], "DataLoader[Any]"],
        *,
        patience_s: float | None = None,
        describe: Callable[[int], str] = str,
        say: Callable[[str], None] = _warn,
    ) -> None:
        self.make = make
        self.patience_s = patience_s
        self.describe = describe
        self.say = say
        self._first = make(0, False)

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[Item]:
        delivered, failures = 0, 0
        batches = self._start(self._first)
        try:
            while True:
                try:
                    batch = self._next(batches)
                except StopIteration:
                    return
                except _WorkersGone as reason:
                    _end(batches)
                    failures += 1
                    what = self.describe(delivered)
                    if failures > MAX_RESTARTS:
                        raise DataError(
                            f"the workers of the loader failed {failures} times at the same batch ({reason}): {what}. "
                            "Check these files, the memory and the size of /dev/shm; workers=0 decodes in the training "
                            "process and shows what is wrong"
                        ) from None
                    self.say(f"{reason}; the loader starts anew at {what}")
                    # Alone, so that it is this batch that fails, or not, and none that is read ahead.
                    batches = self._start(self.make(delivered, True))
                    continue
                yield batch
                delivered += 1
                if failures:
                    failures = 0
                    _end(batches)
                    batches = self._start(self.make(delivered, False))
        finally:
            _end(batches)

    def _start(self, loader: "DataLoader[Any]") -> Iterator[Item]:
        batches = iter(loader)
        if loader.num_workers and threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's own raises anywhere
        return batches

    def _next(self, batches: Iterator[Item]) -> Item:
        """The next batch; ``_WorkersGone`` if one of the workers is dead, or none of them answers."""
        workers = _workers(batches)
        with _Deadline(self.patience_s, workers) as deadline:
            while True:
                try:
                    return next(batches)
                except (RuntimeError, OSError, EOFError) as error:
                    if not workers or "in DataLoader worker process" in str(error):
                        raise  # what decoding itself raised
                    if deadline.passed:
                        raise _WorkersGone(
                            f"no batch for {self.patience_s:g} s (worker_timeout): a worker hangs"
                        ) from error
                    dead = [str(worker.pid) for worker in workers if not worker.is_alive()]
                    if dead:
                        codes = ", ".join(str(worker.exitcode) for worker in workers if not worker.is_alive())
                        raise _WorkersGone(f"worker process {', '.join(dead)} ended (exit code {codes})") from error
                    if isinstance(error, OSError | EOFError):  # it ended while it handed over a batch
                        raise _WorkersGone(f"a worker process broke off ({type(error).__name__})") from error
                    if "timed out after" not in str(error):
                        raise


class _Deadline:
    """Ends the workers when the time in the block is up.

    From outside, because the wait for the memory of a batch, which a stopped worker does not hand over, knows no time
    limit: it ends with the worker.
    """

    def __init__(self, seconds: float | None, workers: list[Any]) -> None:
        self.workers = workers
        self.passed = False
        self._timer = threading.Timer(seconds, self._end) if seconds is not None and workers else None

    def __enter__(self) -> Self:
        if self._timer:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer:
            self._timer.cancel()

    def _end(self) -> None:
        self.passed = True
        _send_kill(self.workers)


class _WorkersGone(Exception):
    """The workers cannot go on; the message says why."""


def _workers(batches: Iterator[Any]) -> list[Any]:
    return list(getattr(batches, "_workers", []))


def _end(batches: Iterator[Any]) -> None:
    """Ends the workers of an iterator for sure.

    A stopped worker does not answer, and one that was killed may hold a lock that a tidy end would wait for.
    """
    workers = _workers(batches)
    if not workers:
        return
    sound = all(worker.is_alive() for worker in workers) and not getattr(batches, "_shutdown", True)
    shut_down = getattr(batches, "_shutdown_workers", None)
    if shut_down is not None:
        tidy = threading.Thread(target=shut_down, daemon=True)
        if not sound:
            _kill(workers)
        tidy.start()
        tidy.join(timeout=POLL_S + 5)
    _kill(workers)


def _kill(workers: list[Any]) -> None:
    _send_kill(workers)
    for worker in workers:
        worker.join(timeout=1)


def _send_kill(workers: list[Any]) -> None:
    for worker in workers:
        if worker.is_alive():
            with suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)


def keep_freed_memory() -> None:
    """Lets the C library keep what a clip gave back: the next one would get the same from the kernel, page by page.

    By mallopt of glibc (its malloc.h has the numbers of the options); elsewhere nothing is done.
    """
    trim_threshold, mmap_threshold = -1, -3
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 1 << 25)  # the largest that all versions take
        mallopt(trim_threshold, 1 << 26)
