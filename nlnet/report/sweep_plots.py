"""Pictures of a sweep: score against cost, and score against the distance that a class depends on."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nlnet.report.pictures import INK, LINE, MUTED, label, new_figure, series_style, style_axes
from nlnet.report.seeds import RowSummary, Spread

_DISTANCE = re.compile(r"time_(\d+)_space_(\d+)/")  # in the paths of nlnet.data.synthetic_distance


def draw_score_against_cost(summaries: Sequence[RowSummary]) -> Figure | None:
    """Score, with its deviation over the seeds, against multiply-adds; None without two rows that have both."""
    points = [
        (number, macs, score)
        for number, summary in enumerate(summaries)
        if (macs := summary.cost("macs", per=1e9)) and (score := summary.score())
    ]
    if len(points) < 2:
        return None
    per, unit = (1e-3, "M") if max(macs for _, macs, _ in points) < 0.1 else (1.0, "G")
    figure = new_figure(width=6.4, height=4.0)
    axes = figure.subplots()
    style_axes(axes)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    for number, macs, score in points:
        colour, _ = series_style(number)
        marker = "os^Dvp"[number // 6 % 6]
        axes.errorbar(
            macs / per, score.mean, yerr=score.deviation or 0.0, color=colour, marker=marker, markersize=6, capsize=3,
            linestyle="none", label=label(summaries[number].name),
        )  # fmt: skip
    axes.set_xlabel(f"multiply-adds of a clip ({unit})", color=MUTED, fontsize=8.5)
    axes.set_ylabel("mAP (%)" if summaries[0].several_labels else "top-1 (%)", color=MUTED, fontsize=8.5)
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8.5)
    return figure


@dataclass(frozen=True)
class AtDistance:
    """What one row reached on the videos of one distance: top-1 in percent over its seeds."""

    time: int  # frames
    space: int  # pixels
    videos: int
    score: Spread


def score_by_distance(summary: RowSummary) -> list[AtDistance]:
    """The row's scores by the distances that stand in the paths of its videos; empty where there are none."""
    by_distance: dict[tuple[int, int], list[float]] = {}
    videos: dict[tuple[int, int], int] = {}
    for run in summary.done():
        predictions = run.predictions(summary.views)
        if predictions is None:
            return []
        right = (predictions.predicted() == predictions.labels) & predictions.scored
        found = [_DISTANCE.search(path) for path in predictions.paths]
        if not all(found):
            return []
        distances = [(int(match[1]), int(match[2])) for match in found if match]
        for distance in sorted(set(distances)):
            mine = np.array([own == distance for own in distances])
            videos[distance] = int(mine.sum())
            by_distance.setdefault(distance, []).append(100 * float(right[mine].mean()))
    return [
        AtDistance(*distance, videos[distance], spread)
        for distance, values in by_distance.items()
        if (spread := Spread.of(values))
    ]


def distances_csv(summaries: Sequence[RowSummary]) -> str:
    """All of ``score_by_distance`` as a CSV file; empty without any."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["row", "time (frames)", "space (pixels)", "videos", "seeds", "top-1 (%)", "top-1 std (%)"])
    lines = [
        [
            summary.name, at.time, at.space, at.videos, len(summary.results), f"{at.score.mean:.4f}",
            "" if at.score.deviation is None else f"{at.score.deviation:.4f}",
        ]
        for summary in summaries
        for at in score_by_distance(summary)
    ]  # fmt: skip
    writer.writerows(lines)
    return output.getvalue() if lines else ""


def draw_score_against_distance(summaries: Sequence[RowSummary], *, chance: float | None) -> Figure | None:
    """Two panels: top-1 against the distance in time at the smallest in space, and the other way round.

    Mean and band of one standard deviation over the seeds; ``chance`` in percent. None where no video has a distance.
    """
    rows = [(number, summary.name, found) for number, summary in enumerate(summaries)
            if (found := score_by_distance(summary))]  # fmt: skip
    if not rows:
        return None
    nearest = min(at.space for _, _, found in rows for at in found)
    figure = new_figure(width=9.0, height=3.6)
    in_time, in_space = figure.subplots(1, 2, sharey=True)
    for axes, title, unit in (
        (
            in_time,
            "Accuracy against distance in time",
            f"frames between the objects (0: in the same), {nearest} pixels apart",
        ),
        (in_space, "Accuracy against distance in space", "pixels between the objects, in the same frames"),
    ):
        style_axes(axes)
        axes.set_title(title, loc="left", color=INK, fontsize=10)
        axes.set_xlabel(unit, color=MUTED, fontsize=8.5)
        if chance is not None:
            axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
            axes.annotate(
                "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
                ha="right", color=MUTED, fontsize=8,
            )  # fmt: skip
    in_time.set_ylabel("top-1 (%)", color=MUTED, fontsize=8.5)
    for number, name, found in rows:
        _draw_line(in_time, number, name, [(at.time, at.score) for at in found if at.space == nearest])
        _draw_line(in_space, number, name, [(at.space, at.score) for at in found if at.time == 0])
    in_time.set_ylim(top=102)
    handles, names = in_time.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _draw_line(axes: Axes, number: int, name: str, points: Sequence[tuple[int, Spread]]) -> None:
    points = sorted(points, key=lambda point: point[0])
    x, mean = [distance for distance, _ in points], np.array([score.mean for _, score in points])
    deviation = np.array([score.deviation or 0.0 for _, score in points])
    colour, dash = series_style(number)
    axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, mean, color=colour, linestyle=dash, marker="osD^vp"[number % 6], markersize=4.5, label=label(name))
