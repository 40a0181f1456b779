"""The rows of a comparison: each a few run folders that differ in the seed alone -> one mean and deviation.

Nothing here raises for a run that is missing, running, failed or half written: such a run is counted and named.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from nlnet.report.run_folder import RunFolder, num_views, number


@dataclass(frozen=True)
class Range:
    """From low to high."""

    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of one number over seeds; of a single seed there is no deviation."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """[n] -> mean and deviation (n - 1 in the denominator); None for no values."""
        if not values:
            return None
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


class SweepRow(TypedDict):
    """One row of a comparison: its seeds' run folders, and what may stand beside them.

    ``changed``: what the row changes, key -> value. ``published``: top-1 (or mAP) and top-5 in percent.
    ``published_cost``: parameters and multiply-adds as multiples of the first row's.
    """

    name: str
    runs: Sequence[str | Path]
    changed: NotRequired[Mapping[str, str]]
    published: NotRequired[tuple[float, float | None] | None]
    published_cost: NotRequired[tuple[float, float | None] | None]


@dataclass(frozen=True)
class RowSummary:
    """What one row of a comparison came to; ``results`` holds results.json of the seeds that are done."""

    name: str
    runs: tuple[RunFolder, ...]
    views: str
    results: tuple[Mapping[str, Any], ...]
    published: tuple[float | None, float | None]
    seeds: str
    changed: Mapping[str, str] = field(default_factory=dict)
    published_cost: tuple[float | None, float | None] = (None, None)

    @property
    def several_labels(self) -> bool:
        """Whether the score is mean average precision."""
        return any("map" in result for result in self.results)

    def score(self) -> Spread | None:
        """Top-1, or mAP of several labels, in percent."""
        return self.percent("map" if self.several_labels else "top1")

    def done(self) -> list[RunFolder]:
        """The runs that ``results`` are of."""
        return [run for run in self.runs if run.state() in ("DONE", "") and run.results(self.views)]

    def speed(self) -> Spread | None:
        """Clips per second of training, over the seeds the median of each."""
        values = [
            statistics.median(speeds)
            for run in self.done()
            if (speeds := [speed for record in run.metrics("train") if (speed := number(record, "clips_per_second"))])
        ]
        return Spread.of(values)

    def peak_memory(self) -> float | None:
        """Bytes, the highest of the seeds."""
        return max((peak for run in self.done() if (peak := number(run.costs(), "peak_memory"))), default=None)

    def percent(self, key: str) -> Spread | None:
        """A fraction of results.json over the seeds, in percent."""
        values = (number(result, key) for result in self.results)
        return Spread.of([100 * value for value in values if value is not None])

    def cost(self, key: str, *, per: float) -> float | None:
        values = (number(run.costs(), key) for run in self.runs)
        return next((value / per for value in values if value is not None), None)


def summarise_rows(rows: Sequence[SweepRow]) -> list[RowSummary]:
    """Reads the run folders of each row: only seeds that are DONE count, and all on the same views if they can."""
    runs = [tuple(RunFolder(Path(path)) for path in row["runs"]) for row in rows]
    shared = _shared_views([run for row in runs for run in row])
    summaries = []
    for row, folders in zip(rows, runs, strict=True):
        views = shared or _shared_views(folders) or next((run.views()[0] for run in folders if run.views()), "")
        outcomes = [_outcome(run, views) for run in folders]
        results = [run.results(views) for run, outcome in zip(folders, outcomes, strict=True) if outcome == "done"]
        summaries.append(
            RowSummary(
                row["name"],
                folders,
                views,
                tuple(results),
                row.get("published") or (None, None),
                _seeds_text(outcomes),
                row.get("changed") or {},
                row.get("published_cost") or (None, None),
            )
        )
    return summaries


def _shared_views(runs: Sequence[RunFolder]) -> str:
    """The evaluation with the most views that every run with any evaluation has; empty if there is none."""
    sets = [set(views) for run in runs if (views := run.views())]
    return max(set.intersection(*sets), key=lambda name: (num_views(name), name), default="") if sets else ""


def _outcome(run: RunFolder, views: str) -> str:
    """A run in one word. An evaluation of a run that is not DONE is of an early checkpoint: it does not count."""
    if run.state() not in ("DONE", ""):
        return run.state().lower()
    if run.results(views):
        return "done"
    return "not evaluated" if run.state() == "DONE" else "not started"


def _seeds_text(outcomes: Sequence[str]) -> str:
    """['done', 'done', 'failed'] -> '2 of 3 seeds (1 failed)'; one word when all seeds are in the same state."""
    done = outcomes.count("done")
    others = [word for word in dict.fromkeys(outcomes) if word != "done"]
    if not outcomes:
        return "not started"
    if not others:
        return "1 seed" if done == 1 else f"{done} seeds"
    if not done and len(others) == 1:
        return others[0]
    return f"{done} of {len(outcomes)} seeds ({', '.join(f'{outcomes.count(word)} {word}' for word in others)})"
