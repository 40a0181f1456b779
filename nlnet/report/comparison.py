"""One row of a sweep against another, on the same videos: from the stored predictions of all their seeds."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nlnet.metrics import mean_average_precision
from nlnet.report.run_folder import MultiLabelPredictions, RunFolder
from nlnet.report.seeds import Range, RowSummary
from nlnet.study.statistics import bootstrap_of, bootstrap_of_means, mcnemar, merge_p


@dataclass(frozen=True)
class Comparison:
    """A row less another: interval of the difference in percent points, and McNemar's p; None where there is no answer.

    The interval is that of a paired bootstrap over the videos, with the mean over the seeds of each row. McNemar's test
    is of each seed that both rows have, its p merged over them; with several labels, where no video is right or wrong
    as a whole, there is none.
    """

    interval: Range | None
    p: float | None


def compare(ours: RowSummary, theirs: RowSummary) -> Comparison | None:
    """None where one of them has no predictions, or not of the same videos."""
    if ours.several_labels != theirs.several_labels or ours.views != theirs.views:
        return None
    return _compare_maps(ours, theirs) if ours.several_labels else _compare_accuracies(ours, theirs)


def _compare_accuracies(ours: RowSummary, theirs: RowSummary) -> Comparison | None:
    mine, others = (_correct(row.done(), row.views) for row in (ours, theirs))
    paths = {seed_paths for seed_paths, _ in (*mine.values(), *others.values())}
    if not mine or not others or len(paths) != 1:
        return None
    ours_SN, theirs_SN = (np.stack([correct for _, correct in row.values()]) for row in (mine, others))
    interval = bootstrap_of_means(ours_SN, theirs_SN)
    ps = [mcnemar(mine[seed][1], others[seed][1]) for seed in mine if seed in others]
    return Comparison(Range(100 * interval.low, 100 * interval.high), merge_p(ps) if ps else None)


def _correct(runs: list[RunFolder], views: str) -> dict[str, tuple[tuple[str, ...], NDArray[np.bool_]]]:
    """Seed (the name of the run's folder) -> its videos and which were right; what could not be decoded is wrong."""
    found = {}
    for run in runs:
        predictions = run.predictions(views)
        if predictions is not None and predictions.paths:
            right = (predictions.predicted() == predictions.labels) & predictions.scored
            found[run.path.name] = (predictions.paths, right)
    return found


def _compare_maps(ours: RowSummary, theirs: RowSummary) -> Comparison | None:
    mine, others = ([run.multi_label_predictions(row.views) for run in row.done()] for row in (ours, theirs))
    mine_found, others_found = ([found for found in row if found is not None] for row in (mine, others))
    if not mine_found or not others_found or len({found.paths for found in (*mine_found, *others_found)}) != 1:
        return None

    def difference(videos: NDArray[np.int64]) -> float:
        maps = [[_map(found, videos) for found in row] for row in (mine_found, others_found)]
        return float(np.mean(maps[0]) - np.mean(maps[1]))

    interval = bootstrap_of(difference, len(mine_found[0].paths))
    return Comparison(Range(100 * interval.low, 100 * interval.high), None)


def _map(found: MultiLabelPredictions, videos: NDArray[np.int64]) -> float:
    scores = torch.from_numpy(np.where(found.scored[:, None], found.scores, -np.inf)[videos])
    return mean_average_precision(scores, torch.from_numpy(found.labels[videos]))
