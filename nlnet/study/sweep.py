"""A sweep: the rows of a table, and a run for each row and seed.

A run is a run folder (``SWEEP/ROW/sSEED``) and says of itself in status.json whether it is done. So a sweep that is
killed and started again goes on. What rows and seeds a folder has is written into its sweep.json, so that no table
loses a row or a seed because a later command asks for fewer.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from nlnet.errors import ConfigError
from nlnet.launch import Launcher, Local
from nlnet.study.locks import alone

RECORD = "sweep.json"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        title: as the table shows it.
        overrides: what this row changes, as on the command line of ``nlnet train``.
        published: top-1 and top-5 in percent of the paper's table, or mAP alone, or None.
        start_from: SWEEP/ROW beside this sweep, whose run of the same seed gives the weights (``init.path``), or None.
        published_cost: parameters and multiply-adds of the paper's table, as multiples of the baseline's, or None.
    """

    title: str
    overrides: Sequence[str] = ()
    published: Sequence[float] | None = None
    published_cost: Sequence[float] | None = None
    start_from: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A table.

    Args:
        title: of the table.
        rows: by the name of their folder, the baseline first; empty for a grid, whose rows the command line makes.
        overrides: of every run.
        seeds: each row is trained once with each.
        processes: training processes (GPUs) of each run.
        parallel: runs side by side; None for as many as the GPUs are enough for, one where there is none.
        notes: shown under the table.
        pool: name of a folder beside the sweep's own for its run folders. Tables with the same pool share their runs: a
            row that stands in several of them, under the same name, is trained once. None: the sweep's own folder.
        launcher: what starts runs elsewhere, such as Slurm; None for this machine.
    """

    title: str
    rows: dict[str, Row] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    processes: int = 1
    parallel: int | None = None
    notes: dict[str, str] = field(default_factory=dict)
    pool: str | None = None
    launcher: Launcher | None = None

    def __post_init__(self) -> None:
        for key, value in (("processes", self.processes), ("parallel", self.parallel)):
            if value is not None and value < 1:
                raise ConfigError(f"sweep.{key} must be at least 1, not {value}")
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ConfigError(f"sweep.seeds={list(self.seeds)}: give each seed once, and one at least")

    def runs(self, folder: Path) -> Path:
        """Where the run folders of the sweep in ``folder`` are: RUNS/ROW/sSEED."""
        return folder.parent / self.pool if self.pool else folder


@dataclass(frozen=True)
class Run:
    """One training run of a sweep: its row, its seed, its folder and the command that trains it here.

    ``arguments`` are those of ``nlnet`` in the command, for a launcher; ``overrides`` those of them that are overrides.
    """

    row: str
    seed: int
    folder: Path
    command: Sequence[str]
    arguments: Sequence[str] = ()
    overrides: Sequence[str] = ()

    def state(self) -> str:
        """DONE, FAILED, RUNNING (or cut off), or nothing where it has not begun."""
        try:
            return str(json.loads((self.folder / "status.json").read_text(encoding="utf-8"))["state"])
        except (OSError, ValueError, KeyError):
            return ""


def plan(sweep: Sweep, folder: Path, *, overrides: Sequence[str] = (), config_dir: str | None = None) -> list[Run]:
    """The runs of a sweep, all rows for the first seed before the second, so that a table exists early."""
    options = ["--config-dir", config_dir] if config_dir else []
    local = Local(sweep.processes)
    runs = []
    for seed in sweep.seeds:
        for name, row in sweep.rows.items():
            place = [f"runs={sweep.runs(folder)}", f"name={name}", f"seed={seed}"]
            start = [f"init.path={folder.parent / row.start_from}/s{seed}"] if row.start_from else []
            chosen = last_of_each([*sweep.overrides, *row.overrides, *start, *overrides, *place])
            arguments = ["train", *options, *chosen]
            runs.append(
                Run(name, seed, sweep.runs(folder) / name / f"s{seed}", local.command(arguments), arguments, chosen)
            )
    return runs


def last_of_each(overrides: Sequence[str]) -> list[str]:
    """Overrides with one value for each key: the last one, so that a command line wins over the sweep's file."""
    return list({override.lstrip("+~").partition("=")[0]: override for override in overrides}.values())


def expand(sweep: Sweep, axes: Mapping[str, Sequence[str]]) -> Sweep:
    """Every row of the sweep with every combination of values; of a sweep without rows, the combinations alone.

    Args:
        axes: key as on the command line -> its values. {model/placement: [none, five]} makes of the row ``a`` the rows
            ``a_placement-none`` and ``a_placement-five``.

    Raises:
        ConfigError: two combinations would have the same folder.
    """
    rows: dict[str, Row] = {}
    for (name, row), values in product((sweep.rows or {"": Row("")}).items(), product(*axes.values())):
        chosen = list(zip(axes, values, strict=True))
        slug = "_".join([*([name] if name else []), *(_slug(f"{_last(key)}-{value}") for key, value in chosen)])
        title = ", ".join([*([row.title] if row.title else []), *(f"{_last(key)}={value}" for key, value in chosen)])
        if slug in rows:
            raise ConfigError(f"two rows of the sweep would be called {slug}; make a file with names for them")
        rows[slug] = replace(row, title=title, overrides=[*row.overrides, *(f"{key}={value}" for key, value in chosen)])
    return replace(sweep, rows=rows)


def _last(key: str) -> str:
    """+model/non_local -> non_local; optim.lr -> lr."""
    return re.split(r"[/.@]", key.lstrip("+"))[-1]


def _slug(text: str) -> str:
    """Fit for a folder's name and for an override's value."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")[:80]


def remember(folder: Path, sweep: Sweep) -> Sweep:
    """Adds the sweep's rows and seeds to those that its folder has had before, and returns all of them.

    A row that is asked for anew counts as it is asked for. An unreadable record counts as none.
    """
    with alone(folder):
        return _remember(folder, sweep)


def _remember(folder: Path, sweep: Sweep) -> Sweep:
    try:
        before = recorded(folder)
    except ConfigError:
        before = sweep
    rows, seeds = before.rows, before.seeds
    # The order, and so the baseline, is the present one, unless that has only a part of the rows.
    order = [*sweep.rows, *rows] if rows.keys() <= sweep.rows.keys() else [*rows, *sweep.rows]
    whole = replace(
        sweep,
        rows={name: sweep.rows.get(name) or rows[name] for name in order},
        seeds=sorted({*seeds, *sweep.seeds}),
    )
    record: dict[str, Any] = {
        "title": whole.title,
        "rows": {name: asdict(row) for name, row in whole.rows.items()},
        "seeds": list(whole.seeds),
        "notes": whole.notes,
        "pool": whole.pool,
    }
    unfinished = folder / f".{RECORD}.{os.getpid()}"
    unfinished.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(folder / RECORD)
    return whole


def recorded(folder: Path) -> Sweep:
    """The sweep that a folder's sweep.json tells of.

    Raises:
        ConfigError: there is none.
    """
    try:
        old = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        rows = {name: Row(**row) for name, row in old["rows"].items()}
        return Sweep(str(old["title"]), rows, seeds=old["seeds"], notes=old["notes"], pool=old["pool"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder}: no readable {RECORD}, so no folder of a sweep") from error
