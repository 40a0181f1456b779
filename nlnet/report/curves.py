"""Learning curves of one run, of the seeds of one row, or of all rows of a sweep, from their metrics.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nlnet.report.pictures import INK, MUTED, SERIES, label, new_figure, series_style, style_axes, to_png
from nlnet.report.run_folder import RunFolder, number

# More points than a screen has columns only make the file heavy; beyond this, neighbours are averaged.
MAX_POINTS = 300
KINDS = {"train": (SERIES[0], "training"), "val": (SERIES[1], "validation")}


@dataclass(frozen=True)
class Panel:
    """One plot: a metric of metrics.jsonl, for the kinds of records that have it."""

    title: str
    metric: str
    kinds: tuple[str, ...]
    percent: bool = False


ROW_PANELS = (
    Panel("Loss", "loss", ("train", "val")),
    Panel("Top-1 accuracy (%)", "top1", ("train", "val"), percent=True),
    Panel("Mean average precision (%)", "map", ("val",), percent=True),
    Panel("Learning rate", "lr", ("train",)),
    Panel("Share of the time spent waiting for data (%)", "data_share", ("train",), percent=True),
)
SWEEP_PANELS = (
    Panel("Training loss", "loss", ("train",)),
    Panel("Validation loss", "loss", ("val",)),
    Panel("Training top-1 (%)", "top1", ("train",), percent=True),
    Panel("Validation top-1 (%)", "top1", ("val",), percent=True),
    Panel("Validation mean average precision (%)", "map", ("val",), percent=True),
)


@dataclass(frozen=True)
class Curve:
    """Positions and values of one line: ``x`` [n] in epochs, ``y`` [n] with NaN where the run logged no number."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def thinned(self) -> "Curve":
        """[n] -> [at most MAX_POINTS], by averaging neighbours."""
        if len(self.x) <= MAX_POINTS:
            return self
        parts = [(part.mean() for part in np.array_split(values, MAX_POINTS)) for values in (self.x, self.y)]
        return Curve(*(np.fromiter(part, dtype=np.float64) for part in parts))


@dataclass(frozen=True)
class Series:
    """One name in the legend: a thin curve per seed and, for several seeds, their mean and their band.

    The band is from one standard deviation below the mean to one above.
    """

    name: str
    colour: str
    dash: str
    seeds: tuple[Curve, ...]
    mean: Curve | None
    band: tuple[Curve, Curve] | None = None


def read_series(runs: Sequence[RunFolder], panel: Panel, kind: str) -> tuple[tuple[Curve, ...], Curve | None]:
    """The seeds' curves of one metric, and their mean at the steps that every seed has logged."""
    points = _read_points(runs, panel, kind)
    common = _shared_steps(points)
    seeds = tuple(_curve(list(by_step.values())) for by_step in points)
    return seeds, _curve(common.mean(axis=0)) if len(common) else None


def read_band(runs: Sequence[RunFolder], panel: Panel, kind: str) -> tuple[Curve, Curve] | None:
    """Mean less and plus one standard deviation over the seeds, where they have a mean."""
    common = _shared_steps(_read_points(runs, panel, kind))
    if not len(common):
        return None
    mean, deviation = common.mean(axis=0), common.std(axis=0, ddof=1)
    deviation[:, 0] = 0
    return _curve(mean - deviation), _curve(mean + deviation)


def _read_points(runs: Sequence[RunFolder], panel: Panel, kind: str) -> list[dict[int, tuple[float, float]]]:
    """For each seed that has logged the metric: step -> (epoch, value)."""
    factor = 100.0 if panel.percent else 1.0
    points: list[dict[int, tuple[float, float]]] = []
    for run in runs:
        by_step: dict[int, tuple[float, float]] = {}
        for record in run.metrics(kind):
            position, value = number(record, "epoch"), number(record, panel.metric)
            if position is not None and panel.metric in record:
                by_step[int(record["step"])] = (position, np.nan if value is None else factor * value)
        # A run that logged nothing of this metric yet must not erase the mean of the others.
        if any(np.isfinite(value) for _, value in by_step.values()):
            points.append(by_step)
    return points


def _shared_steps(points: Sequence[Mapping[int, tuple[float, float]]]) -> NDArray[np.float64]:
    """The steps that several seeds all have: [seeds, steps, (epoch, value)]; nothing of a single seed."""
    steps = sorted(set.intersection(*(set(by_step) for by_step in points))) if len(points) > 1 else []
    return np.array([[by_step[step] for step in steps] for by_step in points]) if steps else np.zeros((0, 0, 2))


def _curve(points: Sequence[tuple[float, float]] | NDArray[np.float64]) -> Curve:
    array = np.asarray(points, dtype=np.float64)
    return Curve(array[:, 0], array[:, 1]).thinned()


def _panel_series(rows: Mapping[str, Sequence[RunFolder]], panel: Panel) -> list[Series]:
    series = []
    for index, (name, runs) in enumerate(rows.items()):
        for kind in panel.kinds:
            seeds, mean = read_series(runs, panel, kind)
            colour, dash = series_style(index)
            shown = name
            if len(rows) == 1:
                (colour, shown), dash = KINDS[kind], "solid"
            if seeds:
                series.append(Series(shown, colour, dash, seeds, mean, read_band(runs, panel, kind)))
    return series


def _draw_panel(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    style_axes(axes)
    axes.set_title(panel.title, loc="left", color=INK, fontsize=9.5)
    for line in series:
        if line.band is not None:
            low, high = line.band
            axes.fill_between(low.x, low.y, high.y, color=line.colour, alpha=0.15, linewidth=0)
        # The seeds of many rows would be a thicket.
        for curve in line.seeds if len(series) <= len(KINDS) or line.band is None else ():
            alone = line.mean is None and len(line.seeds) == 1
            _draw_curve(axes, curve, line, width=1.6 if alone else 0.8, opacity=1.0 if alone else 0.4)
        if line.mean is not None:
            _draw_curve(axes, line.mean, line, width=1.8, opacity=1.0)
    axes.set_xlabel("epoch", color=MUTED, fontsize=8.5)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.get_offset_text().set(color=MUTED, fontsize=8.5)
    if panel.percent or panel.metric == "lr":
        axes.set_ylim(bottom=0)


def _draw_curve(axes: Axes, curve: Curve, line: Series, *, width: float, opacity: float) -> None:
    # With few points the points themselves are drawn: a single validation would be no line at all.
    marker = "o" if len(curve.x) <= 20 else ""
    axes.plot(
        curve.x, curve.y, color=line.colour, linestyle=line.dash, linewidth=width, alpha=opacity,
        marker=marker, markersize=2.5 * width**0.5,
    )  # fmt: skip


def _with_data(rows: Mapping[str, Sequence[str | Path]]) -> list[tuple[Panel, list[Series]]]:
    folders = {name: [RunFolder(Path(path)) for path in paths] for name, paths in rows.items()}
    panels = ROW_PANELS if len(rows) == 1 else SWEEP_PANELS
    return [(panel, series) for panel in panels if (series := _panel_series(folders, panel))]


def draw_learning_curves(rows: Mapping[str, Sequence[str | Path]]) -> list[Figure]:
    """Row name -> its seeds' run folders; returns one small figure per metric that has been logged, else none.

    For one row: loss, top-1, learning rate and data-wait share, training and validation in two colours. For several:
    losses and top-1 with a colour per row, the same for each (``legend`` lists them in order).
    """
    figures = []
    for panel, series in _with_data(rows):
        figure = new_figure(width=4.6, height=2.7)
        _draw_panel(figure.subplots(), panel, series)
        figures.append(figure)
    return figures


def legend(rows: Mapping[str, Sequence[str | Path]]) -> list[tuple[str, str, str]]:
    """(name, colour, dash) of each series in the figures of ``draw_learning_curves``."""
    if len(rows) == 1:
        return [(name, colour, "solid") for colour, name in KINDS.values()]
    return [(name, *series_style(index)) for index, name in enumerate(rows)]


def learning_curves(rows: Mapping[str, Sequence[str | Path]], *, title: str = "") -> bytes:
    """The same curves as one PNG with a legend, for a slide or a mail; empty bytes if nothing has been logged."""
    panels = _with_data(rows)
    if not panels:
        return b""
    figure = new_figure(width=9.5, height=2.9 * ((len(panels) + 1) // 2) + 0.4)
    grid = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False)
    for axes, (panel, series) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, series)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    entries = legend(rows)
    handles = [
        grid.flat[0].plot([], [], color=colour, linestyle=dash, label=label(name))[0] for name, colour, dash in entries
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(4, len(entries)),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
    if title:
        figure.suptitle(label(title, limit=100), color=INK, fontsize=12)
    return to_png(figure)
