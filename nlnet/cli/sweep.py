"""``nlnet sweep sweep=TABLE [overrides]``: trains the rows of a table and prints it. The same command again goes on.

``nlnet sweep model/non_local=a,b model/placement=c,d seed=0,1,2`` makes the rows from the command line.
"""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nlnet.cli.arguments import Parser
from nlnet.config.compose import build, check_targets, compose, group_options, plain
from nlnet.config.estimate import Estimate, Estimator
from nlnet.config.grid import split_grid
from nlnet.config.runs import check_folder
from nlnet.errors import ConfigError
from nlnet.report.seeds import SweepRow
from nlnet.report.sweep_files import write_sweep_files
from nlnet.report.tables import Cell, Column, Table
from nlnet.study.running import run_all, slots
from nlnet.study.sweep import Run, Sweep, expand, plan, remember


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet sweep", description=__doc__)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="sweep=TABLE, sweep.KEY=…, key=a,b,… for a grid, and overrides for every run",
    )
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--plan", action="store_true", help="print the plan and the commands, and stop")
    parser.add_argument("--table", action="store_true", help="write the table of what there is, and stop")
    parser.add_argument("--no-probe", action="store_true", help="do not time the networks for the plan")
    options = parser.parse_intermixed_args(arguments)
    sweep, folder, others = read(options.overrides, config_dir=options.config_dir)
    again = shlex.join(["nlnet", "sweep", *options.overrides])
    if options.table:
        print(write_table(folder, remember(folder, sweep), command=again))
        return 0
    runs = plan(sweep, folder, overrides=others, config_dir=options.config_dir)
    _check_done(sweep, runs, config_dir=options.config_dir)
    side_by_side = slots(sweep.parallel, processes=sweep.processes, gpus=_gpus() if not sweep.launcher else [])
    if sweep.launcher and not sweep.parallel:
        side_by_side = [{}] * len(runs)  # all of them wait in Slurm's queue instead of in ours
    estimator = Estimator(
        config_dir=options.config_dir,
        processes=sweep.processes,
        threads=int(side_by_side[0].get("OMP_NUM_THREADS", 0)) or None,
        probe=not options.no_probe and sweep.launcher is None,
    )
    text = describe_plan(sweep, runs, estimator, side_by_side=len(side_by_side))
    if options.plan:
        print(text, *(shlex.join(run.command) for run in runs), sep="\n")
        return 0
    print(text, file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, it ends its runs as Ctrl-C does
    whole = remember(folder, sweep)
    try:
        failed = run_all(
            runs,
            slots=side_by_side,
            launcher=sweep.launcher,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    finally:
        table = write_table(folder, whole, command=again)
    print(table)
    return 3 if failed else 0


def read(overrides: Sequence[str], *, config_dir: str | None) -> tuple[Sweep, Path, list[str]]:
    """A command line -> the sweep, its folder, and the overrides of every run.

    Raises:
        ConfigError: neither a table nor a grid.
    """
    mine = [override for override in overrides if override.startswith(("sweep=", "sweep.", "sweep/", "sweeps="))]
    fixed, axes = split_grid([override for override in overrides if override not in mine], config_dir=config_dir)
    names = [override.partition("=")[2] for override in mine if override.startswith("sweep=")]
    seeds = axes.pop("seed", None) or [value for key, _, value in _parts(fixed) if key == "seed"][-1:]
    named = [value for key, _, value in _parts(fixed) if key == "name"]
    others = [override for override in fixed if override.partition("=")[0] not in ("seed", "name")]
    if not names and not axes:
        tables = ", ".join(group_options("sweep", config_dir=config_dir))
        raise ConfigError(f"which table? sweep=NAME, with one of {tables}; or a grid, KEY=VALUE,VALUE,…")
    config = compose("sweep", mine if names else ["sweep=grid", *mine], config_dir=config_dir)
    check_targets(config.sweep, "sweep")
    sweep: Sweep = build(config.sweep)
    if seeds:
        try:
            sweep = replace(sweep, seeds=[int(seed) for seed in seeds])
        except ValueError as error:
            raise ConfigError(f"seed={','.join(seeds)}: seeds are whole numbers") from error
    default = names[0] if names else "_".join(key.rpartition("/")[2] for key in axes)
    folder = Path(config.sweeps) / (named[-1] if named else default)
    return expand(sweep, axes) if axes else sweep, folder, others


def _check_done(sweep: Sweep, runs: Sequence[Run], *, config_dir: str | None) -> None:
    """Refuses to count a run that is done as one of this sweep when its config is another."""
    for run in runs:
        if run.state() == "DONE":
            try:
                check_folder(run.folder, plain(compose("train", run.overrides, config_dir=config_dir)))
            except ConfigError as error:
                pool = (
                    f"; sweep.pool=NAME puts the runs of this sweep elsewhere than {sweep.pool}" if sweep.pool else ""
                )
                raise ConfigError(f"{error}{pool}") from error


def describe_plan(sweep: Sweep, runs: Sequence[Run], estimator: Estimator, *, side_by_side: int) -> str:
    """What the sweep will do and cost, as a table of its rows and a line.

    Raises:
        ConfigError: a row does not compose.
    """
    left = [run for run in runs if run.state() != "DONE"]
    estimates: dict[str, Estimate] = {}
    for run in runs:
        if run.row not in estimates and run in left:
            estimates[run.row] = estimator(run.overrides)
    if not left:
        return f"{sweep.title}: {len(runs)} runs, all of them done"
    rows: list[list[Cell]] = []
    for name, estimate in estimates.items():
        seconds = None if estimate.seconds is None else _duration(estimate.seconds)
        todo = sum(run.row == name for run in left)
        rows.append([name, todo, estimate.parameters / 1e6, estimate.multiply_adds / 1e9, estimate.steps, seconds])
    columns: list[str | Column] = ["row", "runs", Column("params", "M"), Column("MACs", "G"), "steps", "time of a run"]
    line = f"{sweep.title}: {len(left)} of {len(runs)} runs to do, {side_by_side} side by side"
    seconds_left = [estimates[run.row].seconds for run in left]
    if all(seconds is not None for seconds in seconds_left):
        total = sum(seconds for seconds in seconds_left if seconds is not None) / side_by_side
        line += f"; about {_duration(total)} of the networks alone, by a few steps of each here and now"
    return f"{Table(columns, rows).to_text()}\n{line}"


def _duration(seconds: float) -> str:
    """90061.0 -> '25 h 01 min'; 61 -> '1 min'; 20 -> '20 s'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _parts(overrides: Sequence[str]) -> list[tuple[str, str, str]]:
    return [override.partition("=") for override in overrides]


def _gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and torch.cuda.is_available()]
    return [str(index) for index in range(torch.cuda.device_count())]


def write_table(folder: Path, sweep: Sweep, *, command: str) -> str:
    """Writes the files of the sweep, of what there is so far; returns the table for a terminal."""
    rows: list[SweepRow] = [
        {
            "name": row.title,
            "runs": [sweep.runs(folder) / name / f"s{seed}" for seed in sweep.seeds],
            "changed": {key.lstrip("+"): value for key, _, value in _parts(row.overrides)},
            "published": _pair(row.published),
            "published_cost": _pair(row.published_cost),
        }
        for name, row in sweep.rows.items()
    ]
    table = write_sweep_files(folder, title=sweep.title, rows=rows, notes={**sweep.notes, "command": command})
    return f"{sweep.title}\n\n{table.to_text()}\n\nreport: {folder}/report.html"


def _pair(values: Sequence[float] | None) -> tuple[float, float | None] | None:
    """Top-1 and top-5, or mAP alone."""
    return (values[0], values[1] if len(values) > 1 else None) if values else None
