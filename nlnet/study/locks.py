"""Locks that keep two sweeps in one folder from doing the same work. Not on Windows, where nothing keeps them apart."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


class RunLock:
    """The right to start a run: a lock on ``sSEED.lock`` beside its folder.

    It belongs to the open file, which the run inherits: as long as this process or the run lives, nobody else gets it,
    and it is free when both are gone, however they ended.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.with_name(f"{folder.name}.lock")
        self.file: int | None = None

    def take(self) -> bool:
        """Whether it could be had."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is None:
            return True
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError:  # a file system without locks
            return True
        return True

    def release(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is in such a block of this folder; for moments, not for trainings."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
