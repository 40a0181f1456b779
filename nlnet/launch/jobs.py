"""What a launcher is, and what it gives back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol


class Job(Protocol):
    """Work that has been started. ``wait`` is called once, by one thread; ``stop`` by any."""

    def wait(self) -> int:
        """Waits for its end -> its exit code, see ``nlnet.errors``; a signal's number with a minus."""
        ...

    def stop(self) -> None:
        """Asks it to end; ``wait`` then returns."""
        ...


class Launcher(Protocol):
    """Starts ``nlnet VERB …``."""

    def start(self, arguments: Sequence[str], *, folder: Path, say: Callable[[str], None]) -> Job:
        """Starts it without waiting.

        Args:
            arguments: a verb and what follows it, such as ``["train", "experiment=synthetic"]``.
            folder: the run folder, where the launcher keeps files of its own; its name is the job's.
            say: told each line for people that the job writes, where they reach this process.
        """
        ...
