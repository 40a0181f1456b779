"""All that a sweep leaves behind in its folder: its table in four forms, its runs, its pictures and its report."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nlnet.report.curves import learning_curves
from nlnet.report.page import chance_level, write_sweep_report
from nlnet.report.pictures import to_png
from nlnet.report.run_folder import number, read_text
from nlnet.report.seeds import RowSummary, SweepRow, summarise_rows
from nlnet.report.sweep_plots import distances_csv, draw_score_against_cost, draw_score_against_distance
from nlnet.report.tables import Table, summarise_runs


def write_sweep_files(folder: Path, *, title: str, rows: Sequence[SweepRow], notes: Mapping[str, str]) -> Table:
    """Writes table.csv, .md, .tex and .html, runs.csv, the pictures and report.html; returns the table.

    ``score_by_distance.csv`` and its picture only where the videos have distances (``nlnet.data.synthetic_distance``).
    """
    summaries, table = summarise_rows(rows), summarise_runs(rows)
    texts = {
        "table.csv": table.to_csv(),
        "table.md": table.to_markdown(),
        "table.tex": table.to_latex(),
        "table.html": table.to_html(),
        "runs.csv": _runs_csv(summaries),
        "accuracy_against_distance.csv": distances_csv(summaries),
    }
    chance = chance_level([run for row in summaries for run in row.runs])
    pictures = {
        "accuracy_against_macs.png": _png(draw_score_against_cost(summaries)),
        "accuracy_against_distance.png": _png(draw_score_against_distance(summaries, chance=chance)),
        "learning_curves.png": learning_curves({row["name"]: row["runs"] for row in rows}, title=title),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if text:
            (folder / name).write_text(text, encoding="utf-8")
    for name, png in pictures.items():
        if png:
            (folder / name).write_bytes(png)
    write_sweep_report(folder, title=title, rows=rows, notes=notes)
    return table


def _png(figure: Figure | None) -> bytes:
    return to_png(figure) if figure is not None else b""


def _runs_csv(summaries: Sequence[RowSummary]) -> str:
    """Where every number of the table is from: each run's folder, config (SHA-256 of config.yaml), and results."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    keys = ["top1", "top5", "map", "step"]
    writer.writerow(["row", "run", "state", "views", *keys, "config_sha256", "torch", "threads"])
    for summary in summaries:
        for run in summary.runs:
            results = run.results(summary.views) if summary.views else {}
            config = read_text(run.path / "config.yaml")
            writer.writerow(
                [
                    summary.name,
                    f"{run.path.parent.name}/{run.path.name}",
                    run.state(),
                    summary.views,
                    *(number(results, key) for key in keys),
                    hashlib.sha256(config.encode()).hexdigest() if config else "",
                    run.environment().get("torch"),
                    run.environment().get("threads"),
                ]
            )
    return output.getvalue()
