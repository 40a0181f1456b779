"""A picture of a data set: classes, durations, frame rates, sizes."""

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nlnet.data.prepare.stats import Statistics
from nlnet.report.pictures import SERIES, label, new_figure, style_axes, to_png

MAX_BARS = 40
MAX_NAMES = 30


def plot_statistics(statistics: Statistics, path: Path) -> None:
    """Four histograms -> a PNG at ``path``."""
    figure = new_figure(width=11, height=7.5)
    ((classes, seconds), (rates, sides)) = figure.subplots(2, 2)
    _plot_classes(classes, statistics.classes)
    _plot_numbers(seconds, statistics.seconds, "Duration (s)")
    _plot_numbers(rates, statistics.frame_rates, "Frames per second")
    _plot_numbers(sides, statistics.short_sides, "Shorter side (pixels)")
    for axes in (classes, seconds, rates, sides):
        axes.set_ylabel("videos", fontsize=9)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        style_axes(axes)
    path.write_bytes(to_png(figure))


def _plot_classes(axes: Axes, classes: Counter[str]) -> None:
    """Videos of each class, from the most to the fewest; with names where there is room."""
    ordered = classes.most_common()
    axes.bar(
        range(len(ordered)), [count for _, count in ordered], color=SERIES[0], width=1 if len(ordered) > 60 else 0.8
    )
    axes.set_title(f"Videos of each of {len(ordered)} classes", fontsize=10, loc="left")
    if len(ordered) <= MAX_NAMES:
        names = [label(name, limit=24) for name, _ in ordered]
        axes.set_xticks(range(len(ordered)), names, rotation=60, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks([])


def _plot_numbers(axes: Axes, counts: Counter[int] | Counter[float], title: str) -> None:
    """A bar for each value where they are few, else for equal parts of the range from least to most."""
    axes.set_title(title, fontsize=10, loc="left")
    values = sorted(counts)
    if len(values) <= 12:
        axes.bar(range(len(values)), [counts[value] for value in values], color=SERIES[0])  # type: ignore[index]
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    else:
        weights = [counts[value] for value in values]  # type: ignore[index]
        axes.hist(np.asarray(values), bins=MAX_BARS, weights=weights, color=SERIES[0])
