"""Which classes are taken for which: counts, the most confused pairs, and the picture of the matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nlnet.report.pictures import INK, MUTED, SERIES, label, new_figure
from nlnet.report.run_folder import Predictions

MAX_CLASSES = 40
# Up to here a cell has room for its number.
MAX_NUMBERED = 12


def count_confusions(predictions: Predictions) -> NDArray[np.int64]:
    """Predictions of N videos -> counts [K true, K predicted]; videos that were not scored are left out."""
    counts = np.zeros((predictions.num_classes, predictions.num_classes), dtype=np.int64)
    scored = predictions.scored
    np.add.at(counts, (predictions.labels[scored], predictions.predicted()[scored]), 1)
    return counts


def row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts [K, K] -> share of each true class [K, K]; a class without videos is a row of zeros."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def worst_classes(counts: NDArray[np.int64], *, limit: int = MAX_CLASSES) -> list[int]:
    """The classes to show: all in their order if they fit, else the ``limit`` most often missed, worst first."""
    if len(counts) <= limit:
        return list(range(len(counts)))
    present = [index for index in range(len(counts)) if counts[index].sum()]
    recall = row_shares(counts).diagonal()
    return sorted(present, key=lambda index: (recall[index], index))[:limit]


@dataclass(frozen=True)
class ConfusedPair:
    true: int
    predicted: int
    videos: int
    share: float


def confused_pairs(counts: NDArray[np.int64], *, limit: int) -> list[ConfusedPair]:
    """The errors made most often: at most ``limit`` pairs of different classes, by number of videos."""
    shares = row_shares(counts)
    pairs = [
        ConfusedPair(int(true), int(predicted), int(counts[true, predicted]), float(shares[true, predicted]))
        for true, predicted in zip(*np.nonzero(counts), strict=True)
        if true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair.videos, -pair.share, pair.true, pair.predicted))[:limit]


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Counts [K, K] and K names -> picture, each row in percent of its class; at most MAX_CLASSES classes.

    The shade is the opacity of one blue, so that the picture sits on white paper and on a dark page alike.
    """
    shown = worst_classes(counts)
    shares = row_shares(counts)[np.ix_(shown, shown)]
    numbered = len(shown) <= MAX_NUMBERED
    names = [label(classes[index], limit=32 if numbered else 24) for index in shown]
    # Inches: a cell must hold its number or its label; long names take room at the left and below.
    cell = 0.5 if numbered else 0.2
    margin = 0.4 + 0.075 * max(len(name) for name in names)
    side = max(2.2, cell * len(shown))
    figure = new_figure(width=side + margin, height=side + margin)
    axes = figure.subplots()
    picture = np.empty((*shares.shape, 4))
    picture[..., :3] = to_rgb(SERIES[0])
    picture[..., 3] = shares
    # 'none' puts the picture's own pixels into the SVG; other methods would smooth them at 72 dots per inch.
    axes.imshow(picture, interpolation="none")
    axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=8.5)
    axes.set_yticks(range(len(shown)), names, fontsize=8.5)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_color(MUTED)
    axes.set_xlabel("predicted", color=MUTED, fontsize=9)
    axes.set_ylabel("true", color=MUTED, fontsize=9)
    if numbered:
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                colour = "white" if share > 0.7 else INK
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8.5)
    return figure
