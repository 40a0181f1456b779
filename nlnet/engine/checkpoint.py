"""Checkpoints: complete and verified, or ignored. Plain data only, so that loading one never runs code.

A checkpoint is ``step_00012000.pt`` beside ``step_00012000.pt.sha256``. It is written to a temporary name, flushed to
the disk and renamed, the digest last: a kill or a full disk at any moment leaves the older ones untouched.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nlnet.errors import CheckpointError
from nlnet.weights.files import read_plain

FORMAT = 1


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets ``write`` fill a temporary file, flushes it to the disk and renames it to ``path``."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written ({error}); earlier checkpoints are untouched") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes ``state`` (tensors, numbers, strings, lists and dictionaries) and its digest."""

    def write_state(temporary: Path) -> None:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)

    write_atomically(path, write_state)
    write_atomically(_digest_path(path), lambda temporary: _write_text(temporary, _sha256(path)))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads and verifies a checkpoint of ours, onto the CPU.

    Raises:
        CheckpointError: it is missing, damaged, of a newer format, or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    digest = _digest_path(path)
    if digest.is_file() and digest.read_text().strip() != _sha256(path):
        raise CheckpointError(f"{path}: damaged: its SHA-256 digest is not the one in {digest.name}")
    state = read_plain(path)
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(f"{path}: not a checkpoint of nlnet; foreign ones are converted first")
    if state["format"] > FORMAT:
        raise CheckpointError(f"{path}: written by a newer nlnet (format {state['format']}, this one reads {FORMAT})")
    return state


class CheckpointFolder:
    """The checkpoints of one run. Keeps the newest ``keep`` and the best.

    Args:
        path: the folder; made on the first save.
        keep: how many of the newest to keep.
        say: told when a damaged checkpoint is passed over.
    """

    def __init__(self, path: Path, *, keep: int = 2, say: Callable[[str], None] = print) -> None:
        self.path = path
        self.keep = keep
        self.say = say

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes the checkpoint of this step, points last.json to it and removes those that are no longer kept."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / _name(step)
        save_checkpoint(path, state)
        pointer = json.dumps({"step": step, "file": path.name})
        write_atomically(self.path / "last.json", lambda temporary: _write_text(temporary, pointer))
        for old in self._newest_first()[self.keep :]:
            old.unlink(missing_ok=True)
            _digest_path(old).unlink(missing_ok=True)
        return path

    def save_best(self, state: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        save_checkpoint(self.best, state)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest valid checkpoint; damaged ones are passed over and said. None when the run has none."""
        for path in self._newest_first():
            if not _digest_path(path).is_file():
                self.say(f"{path}: passed over, its digest is missing (the write was cut off)")
                continue
            try:
                return path, load_checkpoint(path)
            except CheckpointError as error:
                self.say(f"passed over: {error}")
        return None

    def before(self, step: int) -> Path | None:
        """The newest checkpoint of a step in front of this one."""
        return next((path for path in self._newest_first() if path.name < _name(step)), None)

    def _newest_first(self) -> list[Path]:
        return sorted(self.path.glob("step_*.pt"), reverse=True)


def _name(step: int) -> str:
    return f"step_{step:08d}.pt"


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
