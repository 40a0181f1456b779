"""``python -m tests.faults``: injects all faults and bad inputs, and prints what was survived. See scripts/faults."""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import torch

from tests.conftest import REPOSITORY, write_clip
from tests.faults import decoding, kills, launcher, loading, loggers, numbers, rot, videos, writes
from tests.faults.processes import Case

PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- table: scripts/faults writes it -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class Group:
    """A row of the table."""

    title: str
    passes: str  # what counts as survived
    run: Callable[[Path, Path], list[Case]]


def class_folder(root: Path) -> Path:
    """Thirty small videos of three classes, for the runs that are whole commands."""
    for label, (name, colour) in enumerate([("sky", (60, 60, 200)), ("grass", (60, 200, 60)), ("wall", (200, 60, 60))]):
        for number in range(10):
            path = root / name / f"clip {number}.mp4"
            if not path.exists():  # another process may be reading it
                write_clip(path, colour, seed=100 * label + number)
    return root


def of_module(name: str) -> Callable[[Path, Path], list[Case]] | None:
    """``run_all`` of a list of mutations, where there is one."""
    if importlib.util.find_spec(f"tests.faults.{name}") is None:
        return None
    module = importlib.import_module(f"tests.faults.{name}")
    return lambda home, clips: module.run_all()


def groups() -> dict[str, Group]:
    found = {
        "videos": Group(
            "Broken and odd video files",
            "a clip of the right size or a reason, in training (replaced, counted) and in a test (never replaced)",
            lambda home, clips: videos.run_all(home),
        ),
        "rot": Group(
            "Damage to checkpoints: bit flips, truncations, zeroed blocks, headers",
            "refused by name where it is alone; in a run folder the one before it is taken, and said",
            lambda home, clips: rot.run_all(home),
        ),
        "writes": Group(
            "Writes cut off or failing: kill -9, full disks, limits, denied calls",
            "the newest complete checkpoint is there and sound; nothing half-written is left",
            lambda home, clips: writes.run_all(home),
        ),
        "kills": Group(
            "kill -9 at random moments of training, twice in each run",
            "the same command ends with the same weights to the bit",
            lambda home, clips: kills.run_kills(home),
        ),
        "resumes": Group(
            "Asked to stop at any step; other numbers of processes behind it",
            "exit code 75, then the same weights to the bit; on other numbers the same samples in each step",
            lambda home, clips: kills.run_resumes(home),
        ),
        "launcher": Group(
            "Jobs under torchrun: killed, hung, preempted, restarted",
            "right exit code, status.json and stacks; the same command ends with the same weights to the bit",
            lambda home, clips: launcher.run_all(home, videos=clips),
        ),
        "decoding": Group(
            "Decoding processes killed, crashed, hung",
            "the same batches come; or, each time at one batch, one error that names its videos",
            lambda home, clips: decoding.run_all(home),
        ),
        "numbers": Group(
            "NaN and infinity in input, loss and gradient",
            "the step counts on no process, the dump names its videos; too many in a row end with exit code 3",
            lambda home, clips: numbers.run_all(home),
        ),
        "loading": Group(
            "Files that would run code: pickles in every container, hostile configs",
            "nothing has run",
            lambda home, clips: loading.run_all(home, videos=clips),
        ),
        "loggers": Group(
            "Loggers that cannot write",
            "training ends with the same weights",
            lambda home, clips: loggers.run_all(home),
        ),
    }
    for name, title in (("configs", "Wrong configs and command lines"), ("lists", "Odd and wrong lists of videos")):
        if run := of_module(name):
            found[name] = Group(title, "refused before any work in one line with the key or line and the mend", run)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("groups", nargs="*", help="some of the groups only")
    parser.add_argument(
        "--keep", type=Path, help="a folder to keep the runs in; once all groups were run in it, the table is written"
    )
    options = parser.parse_args()
    chosen = groups()
    if unknown := set(options.groups) - set(chosen):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(chosen)}")
    torch.set_num_threads(1)
    # The shell of a script starts what runs in the background with SIGINT ignored, and jobs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = options.keep or Path(tempfile.mkdtemp(prefix="nlnet-faults-"))
    clips = class_folder(home / "clips")
    lost = 0
    for name in options.groups or chosen:
        start = time.monotonic()
        cases = chosen[name].run(home / name, clips)
        survived, seconds = sum(ok for _, ok, _ in cases), time.monotonic() - start
        lost += len(cases) - survived
        (home / f"{name}.json").write_text(json.dumps([survived, len(cases), seconds]))
        print(f"{name:<10} {survived:>5} / {len(cases):<5} survived in {seconds:.0f} s", flush=True)
        for case, ok, seen in cases:
            if not ok:
                print(f"    NOT SURVIVED: {case}: {seen}", flush=True)
    if all((home / f"{name}.json").exists() for name in chosen):
        write_table([(group, *json.loads((home / f"{name}.json").read_text())) for name, group in chosen.items()])
    if options.keep is None:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if lost else 0


def write_table(rows: list[tuple[Group, int, int, float]]) -> None:
    """Puts the table into docs/reliability.md."""
    survived, injected, seconds = (sum(row[k] for row in rows) for k in (1, 2, 3))
    lines = ["| faults and bad inputs | survived means | survived / injected |", "|---|---|---|"]
    lines += [f"| {group.title} | {group.passes} | {good:,} / {count:,} |" for group, good, count, _ in rows]
    lines.append(f"| **all** | | **{survived:,} / {injected:,}** |")
    cores = len(os.sched_getaffinity(0))
    made = (
        f"`scripts/faults`, {time.strftime('%Y-%m-%d')}: {seconds / 60:.0f} minutes on {cores} CPU cores, Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, PyAV {av.__version__}, {platform.system()}."
    )
    print(f"all        {survived:>5} / {injected:<5} survived in {seconds / 60:.1f} minutes")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, behind = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{made}\n\n{END}{behind}", encoding="utf-8")
    print(f"written: {PAGE.relative_to(REPOSITORY)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
