"""The reports: one self-contained HTML file for a run, and one for a sweep."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure

from nlnet.errors import DataError
from nlnet.report import document, run_sections
from nlnet.report.curves import draw_learning_curves, legend
from nlnet.report.dot_plot import dot_plot, explanation
from nlnet.report.run_folder import RunFolder, number
from nlnet.report.seeds import RowSummary, SweepRow, summarise_rows
from nlnet.report.sweep_plots import draw_score_against_cost, draw_score_against_distance
from nlnet.report.tables import Cell, Column, Table, summarise_runs

REPORT_FILE = "report.html"
_DISTANCE_CAPTION = "Of the two objects that the class relates. Bands: ± one standard deviation over the seeds."


def write_run_report(run_folder: str | Path) -> Path:
    """Run folder -> its report.html, from whatever files are there; returns the path of the page."""
    run = RunFolder(Path(run_folder))
    if not run.path.is_dir():
        raise DataError(f"{run.path}: no such run folder. Runs lie in runs/<name>/s<seed>")
    views = run.views()
    shown = views[0] if views else ""
    predictions = run.predictions(shown) if shown else None
    classes = run_sections.class_names(run, shown, predictions)
    body = [
        run_sections.heading(run, shown),
        run_sections.evaluations(run, views),
        run_sections.learning(run),
        run_sections.contact_sheet(run, "Clips as the network saw them in training"),
        run_sections.confusion(run, shown, predictions, classes),
        run_sections.per_class(run, shown),
        run_sections.mistakes(run, shown, predictions, classes),
        run_sections.costs(run),
        run_sections.bad_videos(run, shown),
        run_sections.folded(run),
    ]
    path = run.path / REPORT_FILE
    _write(path, document.page(f"{run.name} · nlnet", "\n".join(part for part in body if part)))
    return path


def write_sweep_report(
    folder: str | Path, *, title: str, rows: Sequence[SweepRow], notes: Mapping[str, str] | None = None
) -> Path:
    """Rows of run folders -> ``folder``/report.html; returns its path.

    ``notes`` are shown under the table, each under its key; the one called 'command' is shown as what to type to make
    it all again. Run reports are linked, relative to ``folder``, where they exist: write those first.
    """
    summaries = summarise_rows(rows)
    curves = {_unique(index, rows): row["runs"] for index, row in enumerate(rows)}
    first_sheet = next((run for row in summaries for run in row.runs if run.contact_sheet()), None)
    several_labels = any(row.several_labels for row in summaries)
    chance = None if several_labels else chance_level([run for row in summaries for run in row.runs])
    notes = dict(notes or {})
    command = notes.pop("command", "")
    dots = dot_plot(summaries, chance=chance)
    figures = draw_learning_curves(curves)
    body = [
        f"<h1>{document.escape(title)}</h1>",
        document.scroll(summarise_runs(rows).to_html()),
        document.note(
            "± is the sample standard deviation over seeds. Δ is the difference to the first row, its interval from "
            "a paired bootstrap over the videos; p is exact McNemar's, merged over the seeds as twice their median."
        ),
        *(document.paragraph(f"{key}: {text}") for key, text in notes.items()),
        document.section(
            f"{'mAP' if several_labels else 'Top-1'} by row", document.note(explanation(summaries, chance=chance)), dots
        )
        if dots
        else "",
        _picture("Accuracy against distance", draw_score_against_distance(summaries, chance=chance), _DISTANCE_CAPTION),
        _picture("Score against multiply-adds", draw_score_against_cost(summaries), "Bars: ± one standard deviation."),
        document.section("Learning curves", document.legend(legend(curves)), document.plots(figures))
        if figures
        else "",
        run_sections.contact_sheet(first_sheet, f"Clips of the first run, {first_sheet.name}") if first_sheet else "",
        _run_links(Path(folder), summaries),
        document.section("Make it again", document.preformatted(command)) if command else "",
    ]
    path = Path(folder) / REPORT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, document.page(f"{title} · nlnet", "\n".join(part for part in body if part)))
    return path


def _picture(title: str, figure: Figure | None, caption: str) -> str:
    return document.section(title, document.picture(figure, caption)) if figure is not None else ""


def _write(path: Path, markup: str) -> None:
    # File names that are no UTF-8 arrive as lone surrogates, which cannot be written.
    path.write_text(markup, encoding="utf-8", errors="replace")


def chance_level(runs: Sequence[RunFolder]) -> float | None:
    """Top-1 of guessing, in percent, where all runs have the same number of classes."""
    counts = {count for run in runs if (count := run.num_classes())}
    return 100 / counts.pop() if len(counts) == 1 else None


def _unique(index: int, rows: Sequence[SweepRow]) -> str:
    """The row's name, with its number where another row has the same."""
    name = rows[index]["name"]
    return name if [row["name"] for row in rows].count(name) == 1 else f"{name} ({index + 1})"


def _run_links(folder: Path, summaries: Sequence[RowSummary]) -> str:
    """Every run with its state and, where it has one, a link to its report."""
    rows: list[list[Cell]] = []
    links: dict[tuple[int, int], str] = {}
    for summary in summaries:
        for run in summary.runs:
            if (run.path / REPORT_FILE).is_file():
                relative = os.path.relpath((run.path / REPORT_FILE).resolve(), folder.resolve())
                links[len(rows), 1] = quote(os.fsencode(Path(relative).as_posix()))
            key = "map" if summary.several_labels else "top1"
            score = number(run.results(summary.views), key) if summary.views else None
            state = run.state().lower() or "not started"
            rows.append(
                [summary.name, run.path.name, state, None if score is None else 100 * score, run.reason() or None]
            )
    columns: list[str | Column] = ["row", "run", "state", Column("score", "%", 1), "reason"]
    if all(row[-1] is None for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return document.section("Runs", document.scroll(Table(columns, rows).to_html(links=links))) if rows else ""
