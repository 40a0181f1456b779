"""``nlnet data check``: decodes a little of every file, or all, and lists what cannot be used. Deletes nothing."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlnet.data.annotations.text import read_table
from nlnet.data.prepare import facts
from nlnet.data.prepare.facts import BAD, DAMAGED, Question, facts_of
from nlnet.data.prepare.files import write_table
from nlnet.data.prepare.ledger import Ledger, Row
from nlnet.data.prepare.progress import Progress
from nlnet.data.prepare.sources import Sources
from nlnet.data.prepare.workers import Failure, each
from nlnet.errors import ConfigError, DataError


@dataclass(frozen=True)
class Effort:
    """How many processes work, and how long one video may take."""

    processes: int = 1
    time_limit_s: float = 300.0

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"--workers must be at least 1, not {self.processes}")
        if self.time_limit_s <= 0:
            raise ConfigError(f"--time-limit must be positive, not {self.time_limit_s:g}")


def check(
    sources: Sources, out: Path, *, effort: Effort, probes: int = 5, whole: bool = False, min_frames: int = 1
) -> str:
    """Looks at every file -> a summary. Files that were looked at before, and are as they were, are not opened again.

    Writes OUT/report.csv (all files, with what they hold) and OUT/quarantine.csv (name and reason of the bad ones,
    which ``nlnet data scan --without`` leaves out).

    Args:
        probes: frames to decode of each file: the first, the last, the others at random.
        whole: decode all of each file; slower, and finds single lost frames.
        min_frames: videos with fewer are bad.
    """
    with Ledger(out, verb="check", settings={"probes": probes, "whole": whole}) as ledger:
        gather(ledger, sources, effort=effort, what="check", probes=probes, whole=whole)
        counts: Counter[str] = Counter()

        def verdicts() -> Iterator[tuple[Row, dict[str, Any]]]:
            for row in ledger.rows():
                found = dict(row.facts)
                if found["status"] != BAD and found["frames"] < min_frames:
                    found |= {"status": BAD, "reason": f"{found['frames']} frames, fewer than {min_frames}"}
                yield row, found

        def report() -> Iterator[list[object]]:
            for row, found in verdicts():
                counts[found["status"]] += 1
                columns = [found.get(column, "") for column in facts.COLUMNS]
                yield [row.name, found["status"], found["reason"], *columns]

        write_table(out / "report.csv", ("path", "status", "reason", *facts.COLUMNS), report())
        bad = ((row.name, found["reason"]) for row, found in verdicts() if found["status"] == BAD)
        write_table(out / "quarantine.csv", ("path", "reason"), bad)
    return (
        f"{counts.total()} videos: {counts.total() - counts[BAD] - counts[DAMAGED]} good, {counts[DAMAGED]} damaged "
        f"but usable, {counts[BAD]} bad\n{out}/report.csv has them all, {out}/quarantine.csv the bad ones"
    )


def gather(ledger: Ledger, sources: Sources, *, effort: Effort, what: str, probes: int, whole: bool = False) -> None:
    """Fills a ledger with the facts of all videos of the sources."""
    total = ledger.fill(sources)
    if not total:
        raise DataError(f"{sources.paths[0]}: no videos")
    waiting = sum(1 for _ in ledger.pending(sources.folder))
    questions = (Question(name, path, probes, whole) for name, path in ledger.pending(sources.folder))
    bar = Progress(what, total=total, done=total - waiting)
    for question, found in each(facts_of, questions, processes=effort.processes, time_limit_s=effort.time_limit_s):
        if isinstance(found, Failure):
            found = {"status": BAD, "reason": found.reason}
        ledger.record(question.name, question.path, found)
        bar.add()
    bar.end()


def read_quarantine(path: str) -> frozenset[str]:
    """The paths of a quarantine.csv."""
    return frozenset(os.path.normpath(row["path"]) for _, row in read_table(path, columns=("path",)))
