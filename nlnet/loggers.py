"""Where a run's numbers go: the console, log.txt, metrics.jsonl and TensorBoard. Only the main process writes.

Losing a logger never stops training: the first failure is said once. Files are tried again with each line, so that they
go on when the disk has room again; TensorBoard is left out from then on.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nlnet.distributed import is_main


class RunLog:
    """Writes lines for people and records for programs into a run folder.

    Args:
        folder: the run folder; None writes to the console alone.
        tensorboard: also writes event files to ``tb/``.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool = True) -> None:
        self.folder = folder if is_main() else None
        self._tensorboard: Any = None
        self._failed: set[str] = set()
        if self.folder is not None and tensorboard:
            self._try("TensorBoard", self._open_tensorboard)

    def line(self, text: str) -> None:
        """One line for people: console and log.txt, with the time."""
        if not is_main():
            return
        stamped = f"{time.strftime('%H:%M:%S')} {text}"
        self._try("the console", lambda: print(stamped, file=sys.stderr, flush=True))
        self._append("log.txt", stamped)

    def record(self, kind: str, step: int, **values: float) -> None:
        """One record of numbers: metrics.jsonl and TensorBoard."""
        self._append("metrics.jsonl", json.dumps({"kind": kind, "step": step, **values}))
        if self._tensorboard is not None:
            self._try("TensorBoard", lambda: self._write_tensorboard(kind, step, values))

    def append(self, name: str, record: dict[str, Any]) -> None:
        """One record as a line of the file ``name`` in the run folder."""
        self._append(name, json.dumps(record))

    def rewind(self, step: int) -> None:
        """Drops the records behind this step from metrics.jsonl: a resumed run writes them again."""
        if self.folder is None or not (path := self.folder / "metrics.jsonl").exists():
            return

        def write() -> None:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text("".join(f"{line}\n" for line in lines if _step(line) <= step), encoding="utf-8")
            unfinished.replace(path)

        self._try("metrics.jsonl", write)

    def close(self) -> None:
        if self._tensorboard is not None:
            self._try("TensorBoard", self._tensorboard.close)

    def _open_tensorboard(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the main process needs it

        assert self.folder is not None
        self._tensorboard = SummaryWriter(self.folder / "tb")

    def _write_tensorboard(self, kind: str, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def _append(self, name: str, text: str) -> None:
        if self.folder is None:
            return
        path = self.folder / name

        def write() -> None:
            with path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

        self._try(name, write)

    def _try(self, name: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # of whatever kind: a logger is not worth a run
            if name == "TensorBoard":
                self._tensorboard = None
            if name not in self._failed:
                self._failed.add(name)
                with suppress(OSError, ValueError):  # the console may be gone too
                    print(f"warning: {name} cannot be written ({error}); training goes on", file=sys.stderr)
        else:
            self._failed.discard(name)


def _step(line: str) -> float:
    """The step of one record; a line that a kill cut off belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
