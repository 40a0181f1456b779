"""A sweep: the rows of a table, a run for each row and seed, each in processes of its own.

A run is a run folder (``SWEEP/ROW/sSEED``) and says of itself in status.json whether it is done. So a sweep that is
killed and started again goes on, and a run that fails does not stop the others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        title: as the table shows it.
        overrides: what this row changes, as on the command line of ``nlnet train``.
        published: top-1 and top-5 in percent of the paper's table, or None.
    """

    title: str
    overrides: Sequence[str] = ()
    published: Sequence[float] | None = None


@dataclass(frozen=True)
class Sweep:
    """A table.

    Args:
        title: of the table.
        rows: by the name of their folder, the baseline first.
        overrides: of every run.
        seeds: each row is trained once with each.
        processes: training processes (GPUs) of each run.
        parallel: runs side by side.
        notes: shown under the table.
    """

    title: str
    rows: dict[str, Row]
    overrides: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    processes: int = 1
    parallel: int = 1
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training run of a sweep: its row, its seed, its folder and the command that trains it."""

    row: str
    seed: int
    folder: Path
    command: Sequence[str]

    def state(self) -> str:
        """DONE, FAILED, RUNNING (or cut off), or nothing where it has not begun."""
        try:
            return str(json.loads((self.folder / "status.json").read_text(encoding="utf-8"))["state"])
        except (OSError, ValueError, KeyError):
            return ""


def plan(sweep: Sweep, folder: Path, *, overrides: Sequence[str] = (), config_dir: str | None = None) -> list[Run]:
    """The runs of a sweep, all rows for the first seed before the second, so that a table exists early."""
    options = ["--config-dir", config_dir] if config_dir else []
    if sweep.processes == 1:
        launch = [sys.executable, "-m", "nlnet"]
    else:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={sweep.processes}"]
        launch = [sys.executable, *torchrun, "-m", "nlnet"]
    runs = []
    for seed in sweep.seeds:
        for name, row in sweep.rows.items():
            place = [f"runs={folder}", f"name={name}", f"seed={seed}"]
            chosen = last_of_each([*sweep.overrides, *row.overrides, *overrides, *place])
            command = [*launch, "train", *options, *chosen]
            runs.append(Run(name, seed, folder / name / f"s{seed}", command))
    return runs


def last_of_each(overrides: Sequence[str]) -> list[str]:
    """Overrides with one value for each key: the last one, so that a command line wins over the sweep's file."""
    return list({override.lstrip("+~").partition("=")[0]: override for override in overrides}.values())


def run_all(runs: Sequence[Run], *, parallel: int = 1, say: Callable[[str], None]) -> list[Run]:
    """Trains what is not done yet, ``parallel`` runs side by side, and returns the runs that failed.

    Side by side, each run gets its share of the CPU's threads (OMP_NUM_THREADS, unless it is set already): several
    small networks train faster next to each other than one after the other on all threads.
    """
    threads = max(1, (os.cpu_count() or 1) // parallel)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    failed = []
    running: set[subprocess.Popen[str]] = set()

    def train(number: int, run: Run) -> None:
        title = f"[{number}/{len(runs)} {run.row} seed {run.seed}]"
        if run.state() == "DONE":
            say(f"{title} done before")
            return
        say(f"{title} {'goes on' if run.state() else 'starts'}")
        process = subprocess.Popen(run.command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
        running.add(process)
        assert process.stderr is not None
        for line in process.stderr:
            say(f"{title} {line.rstrip()}")
        code = process.wait()
        running.discard(process)
        if code == 130 or code < 0:
            raise KeyboardInterrupt  # the user, or whoever ended the run, means the sweep
        if code:
            failed.append(run)
            say(f"{title} failed with exit code {code}; the other runs go on")

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        trainings = [pool.submit(train, number, run) for number, run in enumerate(runs, start=1)]
        try:
            for training in trainings:
                training.result()
        except BaseException:
            for training in trainings:
                training.cancel()  # those that have not begun
            for process in list(running):
                process.terminate()
            raise
    return failed
