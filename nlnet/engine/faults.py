"""What may happen to a process in the middle of its work: signals that ask it to stop, and hangs."""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from nlnet import distributed
from nlnet.errors import Preempted

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Watch:
    """Watches over a run on this process, in a ``with`` block: who asks it to stop, and whether it hangs.

    SIGTERM and SIGUSR1 are noted, and the training loop stops at its next step boundary; before the first
    ``alive`` there is nothing to save, and they end the block with ``Preempted`` at once. Without the block, as in a
    test, nothing is watched.

    Args:
        folder: where log.rankN.txt is written: the stacks of this process when it hangs.
        start_timeout_s: longest time to the first ``alive``; None for no limit.
        step_timeout_s: longest time between two.
        on_hang: told why, before the process ends itself.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        start_timeout_s: float | None = None,
        step_timeout_s: float | None = None,
        on_hang: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.folder = folder
        self.limits = (start_timeout_s, step_timeout_s)
        self.on_hang = on_hang
        self.asked = ""  # the signal that asked this process to stop
        self._owner = os.getpid()
        self._last = time.monotonic()
        self._working = False
        self._over = threading.Event()
        self._handlers: dict[int, Any] = {}

    def alive(self) -> bool:
        """A sign of life, between two pieces of work. Returns whether this process was asked to stop."""
        self._last = time.monotonic()
        self._working = True
        return bool(self.asked)

    def __enter__(self) -> "Watch":
        self._owner = os.getpid()
        self._last = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        if self.folder is not None and any(self.limits):
            threading.Thread(target=self._keep_time, name="nlnet watchdog", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Forked processes inherit the handler: decoding workers, and whatever a library starts.
        if os.getpid() != self._owner:
            return
        self.asked = signal.Signals(number).name
        if not self._working:
            raise Preempted(f"{self.asked} before the first step; the same command starts the run")

    def _keep_time(self) -> None:
        """Ends the process when no sign of life comes in time, with its stacks in its log."""
        tick_s = min(1.0, *(limit / 5 for limit in self.limits if limit))
        before = time.monotonic()
        while not self._over.wait(tick_s):
            now = time.monotonic()
            if now - before > 5 * tick_s + 5:  # the whole process was stopped, as a scheduler may do, and goes on
                self._last += now - before
            before = now
            limit = self.limits[1 if self._working else 0]
            if limit is None or now - self._last <= limit:
                continue
            key = "step_timeout" if self._working else "start_timeout"
            reason = (
                f"no sign of life for {limit:g} s ({key}): this process, or one that it waits for, hangs. The same "
                "command goes on from the last checkpoint"
            )
            write_stacks(self.folder, reason)
            self.on_hang(reason)
            os._exit(1)  # whatever hangs would hang a tidy end too


def write_stacks(folder: Path | None, reason: str, error: BaseException | None = None) -> None:
    """Appends the stacks of all threads of this process, and an error's traceback, to log.rankN.txt."""
    if folder is None or not folder.is_dir():
        return
    path = folder / f"log.rank{distributed.launched_rank()}.txt"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}: {reason}\n")
            if error is not None:
                traceback.print_exception(error, file=file)
            file.write("stacks of all threads:\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
    except OSError as failure:
        print(f"warning: {path} cannot be written ({failure})", file=sys.stderr)
