"""What a test says of every video, the numbers that follow, and the files they are kept in.

Axes: N videos of the list, K classes. Labels are the class of each video, int64 [N], or where a video has any number
of them, bool [N, K].
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlnet import metrics

Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Predictions:
    """Scores [N, K] (zero where a video could not be decoded), labels [N] or [N, K] and which were scored [N].

    ``view_logits`` [N, V, K] are kept where the evaluator was asked to, on the main process: see ``ViewScores``.
    """

    scores: Tensor
    labels: Tensor
    scored: Tensor
    errors: dict[int, str]
    view_logits: Tensor | None = None

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    def top(self, k: int) -> float:
        """Top-k accuracy over all N videos: one that could not be decoded counts as wrong."""
        return float((metrics.in_top_k(self.scores, self.labels, k) & self.scored).double().mean())

    @property
    def mean_average_precision(self) -> float:
        """Over all N videos: those that could not be decoded come last in the ranking of every class."""
        scores = self.scores.masked_fill(~self.scored[:, None], -torch.inf)
        return metrics.mean_average_precision(scores, self.labels)

    @property
    def loss(self) -> float:
        """Cross entropy of the scored videos: mean of -log(score of the label), or over all labels, present and not."""
        scores = self.scores[self.scored].double()
        labels = self.labels[self.scored]
        if self.multi_label:
            right = torch.where(labels, scores, 1 - scores)
        else:
            right = scores.gather(1, labels[:, None])
        return float(-right.clamp_min(1e-12).log().mean()) if right.numel() else float("nan")

    @property
    def coverage(self) -> float:
        """The share of the videos that could be decoded."""
        return float(self.scored.double().mean())

    def summary(self) -> dict[str, float]:
        """``top1`` and ``top5``, or ``map`` for several labels; ``loss``; ``coverage``."""
        if self.multi_label:
            first = {"map": self.mean_average_precision}
        else:
            first = {"top1": self.top(1), "top5": self.top(5)}
        return {**first, "loss": self.loss, "coverage": self.coverage}


def headline(summary: Mapping[str, Any]) -> str:
    """The main numbers of a ``summary`` or of results.json, for people."""
    if "map" in summary:
        return f"mAP {summary['map']:.1%}"
    return f"top-1 {summary['top1']:.1%} · top-5 {summary['top5']:.1%}"


def label_tensor(labels: Sequence[Label], num_classes: int) -> Tensor:
    """The labels of N videos -> int64 [N], or bool [N, K] if they are tuples."""
    if all(isinstance(label, int) for label in labels):
        return torch.tensor(labels, dtype=torch.int64)
    multi_hot = torch.zeros(len(labels), num_classes, dtype=torch.bool)
    for row, label in zip(multi_hot, labels, strict=True):
        row[[label] if isinstance(label, int) else list(label)] = True
    return multi_hot


def write_results(
    folder: Path,
    predictions: Predictions,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Writes results.json, predictions.npz, per_class.csv and unscored.csv of one evaluation.

    ``facts`` go into results.json as they are: the views, the checkpoint and its step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, more = _per_class(predictions, classes)
    summary = {
        **facts,
        "num_videos": len(predictions.labels),
        "num_scored": int(predictions.scored.sum()),
        **predictions.summary(),
        **more,
    }
    np.savez_compressed(
        folder / "predictions.npz",
        scores=predictions.scores.numpy(),
        labels=predictions.labels.numpy(),
        scored=predictions.scored.numpy(),
        paths=np.array(list(names), dtype=np.str_),
    )
    _write_csv(folder / "per_class.csv", rows)
    unscored = [[names[index], reason] for index, reason in sorted(predictions.errors.items())]
    _write_csv(folder / "unscored.csv", [["path", "reason"], *unscored])
    # Last: its presence says that the evaluation is complete.
    (folder / "results.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _per_class(predictions: Predictions, classes: Sequence[str]) -> tuple[list[list[Any]], dict[str, float]]:
    """The rows of per_class.csv with their header, and what they add to the summary."""
    if predictions.multi_label:
        scores = predictions.scores.masked_fill(~predictions.scored[:, None], -torch.inf)
        precision = metrics.average_precision(scores, predictions.labels).tolist()
        counts = predictions.labels.sum(0).tolist()
        rows: list[list[Any]] = [["class", "videos", "average_precision"]]
        for name, total, value in zip(classes, counts, precision, strict=True):
            rows.append([name, total, f"{value:.4f}" if total else ""])
        return rows, {}
    videos, correct = metrics.per_class_counts(predictions.scores, predictions.labels)
    rows = [["class", "videos", "correct", "accuracy"]]
    for name, total, right in zip(classes, videos.tolist(), correct.tolist(), strict=True):
        rows.append([name, total, right, f"{right / total:.4f}" if total else ""])
    return rows, {"mean_class_accuracy": metrics.mean_class_accuracy(videos, correct)}


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
