"""Checkpoints: complete and verified, or ignored. Plain data only, so that loading one never runs code.

A checkpoint is ``step_00012000.pt``, a zip archive as ``torch.save`` writes it, with the SHA-256 digest of all that is
in front of it as the comment of the archive: a copy anywhere can be verified. ``step_00012000.pt.sha256`` beside it is
for ``sha256sum -c``. It is written to a temporary name, flushed to the disk and renamed, its digest first: a kill or a
full disk at any moment leaves the older ones untouched.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from nlnet.errors import CheckpointError, ConfigError
from nlnet.weights.files import read_plain

FORMAT = 2
_COMMENT = b"nlnet sha256 "
_COMMENT_BYTES = len(_COMMENT) + 64
_END_OF_ARCHIVE = b"PK\x05\x06"  # a record of 22 bytes, whose last two are the length of the comment


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
    except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError of torch.save
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be written ({reason}); earlier checkpoints are untouched") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes ``state`` (tensors, numbers, strings, lists and dictionaries) with its digest."""

    def write_state(temporary: Path) -> None:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
        digest = _seal(temporary)
        write_atomically(_digest_path(path), lambda unfinished: _write_text(unfinished, f"{digest}  {path.name}"))

    write_atomically(path, write_state)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads and verifies a checkpoint of ours, onto the CPU.

    Raises:
        CheckpointError: it is missing, damaged, of a newer format, or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    verified = _verify(path)
    state = read_plain(path)
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(f"{path}: not a checkpoint of nlnet; foreign ones are converted first")
    if not isinstance(state["format"], int) or state["format"] > FORMAT:
        raise CheckpointError(f"{path}: written by a newer nlnet (format {state['format']}, this one reads {FORMAT})")
    if not verified:
        raise CheckpointError(f"{path}: damaged: the digest at its end is missing")
    return state


def _seal(path: Path) -> str:
    """Appends the digest of an archive as its comment. Returns the SHA-256 of the file with it."""
    with path.open("r+b") as file:
        file.seek(-22, os.SEEK_END)
        if not file.read(4) == _END_OF_ARCHIVE:
            raise RuntimeError("torch.save has written no plain zip archive")
        file.seek(-2, os.SEEK_END)
        file.write(_COMMENT_BYTES.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        comment = _COMMENT + digest.hexdigest().encode()
        file.write(comment)
    digest.update(comment)
    return digest.hexdigest()


def _verify(path: Path) -> bool:
    """Whether a file carries its digest.

    Raises:
        CheckpointError: the digest is that of another content.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) - _COMMENT_BYTES
            if size < 0:
                return False
            file.seek(size)
            comment = file.read()
            if not comment.startswith(_COMMENT):
                return False
            digest, left = hashlib.sha256(), size
            file.seek(0)
            while left:
                piece = file.read(min(left, 1 << 20))
                digest.update(piece)
                left -= len(piece)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if comment != _COMMENT + digest.hexdigest().encode():
        raise CheckpointError(f"{path}: damaged: its SHA-256 digest is not the one at its end")
    return True


class CheckpointFolder:
    """The checkpoints of one run. Keeps the newest ``keep``, some for good, and the best.

    Args:
        path: the folder; made on the first save.
        keep: how many of the newest to keep.
        keep_every: steps; the first checkpoint at or behind each multiple of them is kept for good. None for none.
        say: told when a damaged checkpoint is passed over.
    """

    def __init__(
        self, path: Path, *, keep: int = 2, keep_every: int | None = None, say: Callable[[str], None] = print
    ) -> None:
        if keep < 1:
            raise ConfigError(f"keep_checkpoints={keep}: at least 1, so that the run can go on from it")
        if keep_every is not None and keep_every < 1:
            raise ConfigError(f"keep_every: a number of epochs above 0, or null, not {keep_every} steps")
        self.path = path
        self.keep = keep
        self.keep_every = keep_every
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
        for old in self._unwanted():
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

    def open_at(self, step: int) -> None:
        """Makes room for a run that goes on at this step: what is behind it was passed over, and is put aside.

        Otherwise it would count among the newest, and crowd out the sound ones. Removes what cut-off writes left.
        """
        for path in self._newest_first():
            if path.name > _name(step):
                path.replace(path.with_name(path.name + ".damaged"))
                _digest_path(path).unlink(missing_ok=True)
        for left in [*self.path.glob("*.tmp"), *self.path.glob("*.sha256")]:
            if left.suffix == ".tmp" or not left.with_suffix("").exists():
                left.unlink(missing_ok=True)

    def before(self, step: int) -> Path | None:
        """The newest checkpoint of a step in front of this one."""
        return next((path for path in self._newest_first() if path.name < _name(step)), None)

    def _unwanted(self) -> list[Path]:
        """Those that are neither among the newest nor kept for good."""
        older = self._newest_first()[self.keep :]
        if self.keep_every is None:
            return older
        kept: dict[int, Path] = {}  # the first of each stretch of ``keep_every`` steps
        for path in reversed(self._newest_first()):
            kept.setdefault(_step(path) // self.keep_every, path)
        kept.pop(0, None)
        return [path for path in older if path not in kept.values()]

    def _newest_first(self) -> list[Path]:
        return sorted(self.path.glob("step_*.pt"), reverse=True)


def _name(step: int) -> str:
    return f"step_{step:08d}.pt"


def _step(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
