"""A limit on the time that one video may take, for every decoder alike: no file can make a run stand still.

The work is done in a thread. Backends ask ``check_time`` between frames, which ends what is slow; a call into a library
that never comes back is left behind with its thread, which then cannot touch anything that is still in use.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from nlnet.data.decoders import Decoder, Frames, VideoReader
from nlnet.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from nlnet.data.transforms import View

T = TypeVar("T")

_GRACE = 1.0  # seconds that a slow backend has to notice, before its thread is left behind

_local = threading.local()


def check_time(path: str) -> None:
    """Called by backends now and then. VideoError where the time that this thread has for the video is over."""
    end = getattr(_local, "end", None)
    if end is not None and time.monotonic() > end:
        raise VideoError(path, _local.reason)


class LimitedDecoder(Decoder):
    """Another decoder, with at most ``seconds`` for opening and reading one video; then it is a VideoError."""

    def __init__(self, decoder: Decoder, seconds: float) -> None:
        if seconds <= 0:
            raise ConfigError(f"data.max_seconds_per_video must be above 0, or null for no limit, not {seconds}")
        self.decoder = decoder
        self.seconds = seconds

    def open(self, path: str) -> VideoReader:
        return self._open(path)

    def _open(self, path: str) -> VideoReader:
        return LimitedReader(self.decoder, path, self.seconds)


class LimitedReader(VideoReader):
    """A reader of another decoder. It is given up at once where its thread is left behind."""

    def __init__(self, decoder: Decoder, path: str, seconds: float) -> None:
        self.path = path
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._reader: VideoReader | None = None
        reader = self._within(lambda: decoder.open(path))
        self._reader = reader
        self.info = reader.info

    def _decode(self, indices: list[int]) -> Frames:
        return self._within(lambda: self._open_reader().frames(indices))

    def read(self, view: "View") -> Frames:
        return self._within(lambda: self._open_reader().read(view))

    def read_all(self, views: Sequence["View"], *, max_bytes: int = 1 << 29) -> list[Frames]:
        return self._within(lambda: self._open_reader().read_all(views, max_bytes=max_bytes))

    def _open_reader(self) -> VideoReader:
        if self._reader is None:
            raise VideoError(self.path, "it is closed")
        return self._reader

    def _within(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, done by another thread.

        Raises:
            VideoError: the time of this video is over.
        """
        reason = f"not decoded within {self._seconds:g} s; leave it out, or raise data.max_seconds_per_video"

        def limited() -> T:
            _local.end, _local.reason = self._end, reason
            return work()

        thread = _idle_thread()
        thread.tasks.put(limited)
        try:
            result, error = thread.results.get(timeout=max(0.0, self._end - time.monotonic()) + _GRACE)
        except queue.Empty:
            self._reader = None  # belongs to the thread left behind: closing it here could crash
            raise VideoError(self.path, reason) from None
        _idle.append(thread)
        if error is not None:
            raise error
        value: T = result
        return value

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _DecodingThread:
    """A thread that does one task after the other. One that is stuck is forgotten and ends with the process."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        ready = threading.Event()
        threading.Thread(target=self._work, args=(ready,), name="nlnet decoding", daemon=True).start()
        ready.wait()

    def _work(self, ready: threading.Event) -> None:
        # These are as many as are wanted at the same time: each scales with one thread, not with one for each core.
        torch.set_num_threads(1)
        ready.set()
        while True:
            task = self.tasks.get()
            answer: tuple[Any, BaseException | None]
            try:
                answer = task(), None
            except BaseException as error:
                answer = None, error
            self.results.put(answer)
            del task, answer  # no video stays open for the sake of a waiting thread


_idle: list[_DecodingThread] = []
_starting = threading.Lock()


def _idle_thread() -> _DecodingThread:
    try:
        return _idle.pop()
    except IndexError:
        pass
    with _starting:
        threads = torch.get_num_threads()
        thread = _DecodingThread()
        torch.set_num_threads(threads)  # setting it in one thread changes what later threads start with
    return thread


def _forget_threads() -> None:
    """In a forked process there are no other threads."""
    global _starting
    _idle.clear()
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
