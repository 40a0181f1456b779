"""``nlnet sweep sweep=TABLE [overrides]``: trains the rows of a table and prints it. The same command again goes on."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from nlnet.config.compose import build, check_targets, compose, group_options
from nlnet.errors import ConfigError
from nlnet.report.page import write_sweep_report
from nlnet.report.seeds import SweepRow
from nlnet.report.tables import summarise_runs
from nlnet.study.sweep import Run, Sweep, plan, run_all


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet sweep", description=__doc__)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="sweep=TABLE, sweep.KEY=…, and overrides for every run"
    )
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--plan", action="store_true", help="print the commands and stop")
    options = parser.parse_intermixed_args(arguments)
    mine = [override for override in options.overrides if override.startswith(("sweep=", "sweep.", "sweeps="))]
    others = [override for override in options.overrides if override not in mine]
    names = [override.partition("=")[2] for override in mine if override.startswith("sweep=")]
    if not names:
        tables = ", ".join(group_options("sweep", config_dir=options.config_dir))
        raise ConfigError(f"which table? sweep=NAME, with one of {tables}")
    config = compose("sweep", mine, config_dir=options.config_dir)
    check_targets(config.sweep, "sweep")
    sweep: Sweep = build(config.sweep)
    folder = Path(config.sweeps) / names[0]
    runs = plan(sweep, folder, overrides=others, config_dir=options.config_dir)
    if options.plan:
        for run in runs:
            print(shlex.join(run.command))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, it ends its runs as Ctrl-C does
    again = shlex.join(["nlnet", "sweep", *options.overrides])
    try:
        failed = run_all(runs, parallel=sweep.parallel, say=lambda text: print(text, file=sys.stderr, flush=True))
    finally:
        table = write_table(folder, sweep, runs, command=again)
    print(table)
    return 3 if failed else 0


def write_table(folder: Path, sweep: Sweep, runs: Sequence[Run], *, command: str) -> str:
    """Writes table.csv, table.md and report.html of what there is so far; returns the table for a terminal."""
    rows: list[SweepRow] = [
        {
            "name": row.title,
            "runs": [run.folder for run in runs if run.row == name],
            "published": (row.published[0], row.published[1]) if row.published else None,
        }
        for name, row in sweep.rows.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table = summarise_runs(rows)
    (folder / "table.csv").write_text(table.to_csv(), encoding="utf-8")
    (folder / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    report = write_sweep_report(folder, title=sweep.title, rows=rows, notes={**sweep.notes, "command": command})
    return f"{sweep.title}\n\n{table.to_text()}\n\nreport: {report}"
