"""Loggers that cannot write: training goes on, ends with the same weights, and says so once."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from nlnet import loggers
from nlnet.engine.trainer import Trainer
from tests.faults.kills import reference
from tests.faults.processes import Case, Processes, TinyRun, after, same

FILES = ("log.txt", "metrics.jsonl", "bad_videos.csv", "nonfinite.jsonl", "status.json")


def in_the_way(name: str) -> Callable[[Trainer], None]:
    """Harm: a folder has the name of the file."""

    def harm(trainer: Trainer) -> None:
        path = trainer.files.bad_videos.path.with_name(name)
        path.unlink(missing_ok=True)
        path.mkdir()

    return harm


def full_device(name: str) -> Callable[[Trainer], None]:
    """Harm: the file is on a device that is always full."""

    def harm(trainer: Trainer) -> None:
        path = trainer.files.bad_videos.path.with_name(name)
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/full")

    return harm


def folder_removed(step: int) -> Callable[[Trainer], None]:
    """Harm: somebody removes the run folder while it trains."""

    def harm(trainer: Trainer) -> None:
        folder = trainer.files.bad_videos.path.parent
        after(step, rank=0, do=lambda: shutil.rmtree(folder))(trainer)

    return harm


def console_gone(kind: str) -> Callable[[Trainer], None]:
    def close() -> None:
        if kind == "closed":
            sys.stderr.close()
        elif kind == "a pipe that nobody reads":
            reading, writing = os.pipe()
            os.close(reading)
            os.dup2(writing, 2)
        else:
            os.dup2(os.open("/dev/full", os.O_WRONLY), 2)

    def harm(trainer: Trainer) -> None:
        after(3, rank=0, do=close)(trainer)

    return harm


def tensorboard_fails(how: str) -> Callable[[Trainer], None]:
    def harm(trainer: Trainer) -> None:
        log = trainer.files.log
        if how == "its folder is removed":
            after(4, rank=0, do=lambda: shutil.rmtree(log.folder / "tb"))(trainer)  # type: ignore[operator]
        elif how == "the disk is full":
            full = OSError(errno.ENOSPC, "No space left on device")
            log._tensorboard.add_scalar = mock.Mock(side_effect=full)
        elif how == "it raises anything":
            log._tensorboard.add_scalar = mock.Mock(side_effect=RuntimeError("by design"))
        else:
            log._tensorboard.close = mock.Mock(side_effect=ValueError("by design"))

    return harm


def survived(home: Path, name: str, harm: Callable[[Trainer], None], whole: TinyRun, **changes: object) -> Case:
    run = replace(whole, folder=home / name.replace(" ", "_").replace("/", "_") / "s0", harm=harm, **changes)  # type: ignore[arg-type]
    processes = Processes(run, world=1, log=home / f"{name.replace('/', '_')}.log")
    codes = processes.wait()
    right = codes == [0] and same(run.weights(), whole.weights())
    return name, right, f"exit {codes}: {processes.output()[-500:]}" if not right else ""


def bad_and_nonfinite(harm: Callable[[Trainer], None]) -> Callable[[Trainer], None]:
    """Harm: also a bad video, so that its list is written."""

    def both(trainer: Trainer) -> None:
        harm(trainer)
        after(2, rank=0, do=lambda: trainer.files.bad_videos.add([(3, "empty")]))(trainer)

    return both


def no_tensorboard() -> Case:
    """TensorBoard is not installed."""
    with mock.patch.dict(sys.modules, {"torch.utils.tensorboard": None}):
        log = loggers.RunLog(Path(), tensorboard=True)
    return "TensorBoard is missing", log._tensorboard is None, ""


def run_all(home: Path, *, full: bool = True) -> list[Case]:
    whole = reference(home, world=1)
    cases = [no_tensorboard()]
    for name in FILES if full else FILES[1:3]:
        cases.append(survived(home, f"a folder in the way of {name}", bad_and_nonfinite(in_the_way(name)), whole))
        if name == "status.json":
            continue  # it is written to another name first
        cases.append(survived(home, f"{name} on a full disk", bad_and_nonfinite(full_device(name)), whole))
    for kind in ("closed", "a pipe that nobody reads", "a full disk") if full else ("closed",):
        cases.append(survived(home, f"the console is {kind}", console_gone(kind), whole))
    for step in (2, 9, 20) if full else (9,):
        cases.append(survived(home, f"the run folder is removed in step {step}", folder_removed(step), whole))
    hows = ("its folder is removed", "the disk is full", "it raises anything", "its end fails")
    for how in hows if full else hows[:1]:
        cases.append(survived(home, f"TensorBoard, {how}", tensorboard_fails(how), whole, tensorboard=True))
    return cases
