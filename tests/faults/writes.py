"""Writes of checkpoints that fail or are cut off: the ones before are untouched, and nothing half-written is taken."""

import ctypes
import os
import random
import resource
import signal
import threading
from pathlib import Path
from unittest import mock

import torch

from nlnet.engine.checkpoint import CheckpointFolder
from nlnet.errors import CheckpointError
from tests.faults.processes import Case, Processes, kill_self
from tests.faults.rot import state


def sound(folder: Path, *, at_least: int) -> tuple[bool, str]:
    """Whether the newest checkpoint is as it was written, and not older than ``at_least``."""
    said: list[str] = []
    found = CheckpointFolder(folder, say=said.append).newest()
    if found is None:
        return at_least == 0, f"no checkpoint; {said}"
    step, expected = found[1]["step"], state(found[1]["step"])
    right = all(torch.equal(expected["model"][name], tensor) for name, tensor in found[1]["model"].items())  # type: ignore[index]
    return right and step >= at_least, f"step {step} of at least {at_least}; {said}"


def killed(home: Path, number: int, seed: int) -> Case:
    """A process writes one checkpoint after the other, and dies somewhere in it."""
    folder, delay_s = home / f"kill{number}", random.Random(f"{seed} {number}").uniform(0, 0.08)
    done = home / f"kill{number}.done"

    def write() -> int:
        checkpoints = CheckpointFolder(folder, keep=2)
        checkpoints.save(1, state(1))
        done.write_text("1")
        threading.Timer(delay_s, kill_self).start()
        for step in range(2, 10_000):
            checkpoints.save(step, state(step))
            done.write_text(str(step))
        return 0

    code = Processes(write, world=1, log=home / "log.txt").wait()
    ok, seen = sound(folder, at_least=int(done.read_text() or 1))
    checkpoints = CheckpointFolder(folder, keep=2, say=lambda text: None)
    checkpoints.open_at(int(checkpoints.newest()[1]["step"]))  # type: ignore[index]
    left = sorted(path.name for path in folder.glob("*.tmp"))
    return f"killed after {1000 * delay_s:.1f} ms of writing", ok and code == [-signal.SIGKILL] and not left, seen


def no_room(home: Path, number: int, size: int) -> Case:
    """The kernel refuses to write behind this size of a file."""
    folder = home / f"room{number}"

    def write() -> int:
        checkpoints = CheckpointFolder(folder, keep=2)
        checkpoints.save(1, state(1))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            checkpoints.save(2, state(2))
        except CheckpointError as error:
            return 0 if "cannot be written" in str(error) and not list(folder.glob("*.tmp")) else 1
        return 2

    code = Processes(write, world=1, log=home / "log.txt").wait()
    ok, seen = sound(folder, at_least=1)
    return f"no room behind {size} bytes", ok and code == [0], f"exit {code}; {seen}"


def full_disk(home: Path, number: int, kilobytes: int) -> Case | None:
    """A real file system of this size; None where this process may not mount one."""
    folder = home / f"disk{number}"
    folder.mkdir()
    result = home / f"disk{number}.result"

    def write() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x00020000):  # mounts of its own, that end with it
            return 77
        if libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None):  # private, recursively
            return 77
        if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={kilobytes}k".encode()):
            return 77
        checkpoints = CheckpointFolder(folder / "checkpoints", keep=2)
        last = 0
        for step in range(1, 100):
            try:
                checkpoints.save(step, state(step))
                last = step
                (folder / f"other{step}").write_bytes(bytes(200_000))  # somebody else fills the disk
            except (CheckpointError, OSError):
                break
        ok, seen = sound(folder / "checkpoints", at_least=last)
        result.write_text(seen)
        return 0 if ok and last < 99 else 1

    (code,) = Processes(write, world=1, log=home / "log.txt").wait()
    if code == 77:
        return None
    return f"a disk of {kilobytes} KiB is full", code == 0, result.read_text() if result.exists() else f"exit {code}"


def failing(home: Path, number: int, name: str, where: str, error: Exception) -> Case:
    """One call that writing is made of fails."""
    folder = home / f"fail{number}"
    checkpoints = CheckpointFolder(folder, keep=2)
    checkpoints.save(1, state(1))
    with mock.patch(where, side_effect=error):
        try:
            checkpoints.save(2, state(2))
            return name, False, "no error"
        except CheckpointError as raised:
            said = str(raised)
    ok, seen = sound(folder, at_least=1)
    tidy = not list(folder.glob("*.tmp"))
    return name, ok and tidy and "\n" not in said and str(folder) in said, f"{said}; {seen}"


def failing_calls() -> list[tuple[str, str, Exception]]:
    full, denied, read_only = (
        OSError(28, "No space left on device"),
        PermissionError(13, "denied"),
        OSError(30, "EROFS"),
    )
    calls: list[tuple[str, str, Exception]] = []
    for call in ("torch.save", "os.fsync", "pathlib.Path.replace", "pathlib.Path.write_text", "os.open"):
        for error in (full, denied, read_only, OSError(5, "EIO"), OSError(122, "quota exceeded")):
            calls.append((f"{call} fails: {error}", call, error))
    unexpected = "[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"
    calls.append(("torch.save fails: RuntimeError", "torch.save", RuntimeError(f"{unexpected}\nframe #0")))
    return calls


def run_all(home: Path, *, kills: int = 30, limits: int = 30, disks: int = 10, calls: int = 100) -> list[Case]:
    home.mkdir(parents=True, exist_ok=True)
    whole = CheckpointFolder(home / "whole").save(1, state(1)).stat().st_size
    cases = [killed(home, number, seed=0) for number in range(kills)]
    sizes = [0, 1, *(random.Random(1).randrange(whole - 1) for _ in range(limits - 2))][:limits]
    cases += [no_room(home, number, size) for number, size in enumerate(sizes)]
    cases += [case for k in range(disks) if (case := full_disk(home, k, whole // 1024 * 2 + 100 + 90 * k)) is not None]
    cases += [failing(home, number, *call) for number, call in enumerate(failing_calls()[:calls])]
    return cases
