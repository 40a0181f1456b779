"""Evaluation: softmax of each view, mean over the views of a video, each video exactly once on any number of processes.

Axes: V views of a video, B views in one forward pass, K classes, N videos of the list.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nlnet import distributed, metrics


class ScoredSample(Protocol):
    """One video as the evaluator takes it: see ``nlnet.data.clips.EvalSample``."""

    clips: list[Tensor]
    label: int
    index: int
    error: str | None


@dataclass(frozen=True)
class Predictions:
    """Scores [N, K] (zero where a video could not be decoded), labels [N] and which videos were scored [N]."""

    scores: Tensor
    labels: Tensor
    scored: Tensor
    errors: dict[int, str]

    def top(self, k: int) -> float:
        """Top-k accuracy over all N videos: one that could not be decoded counts as wrong."""
        return float((metrics.in_top_k(self.scores, self.labels, k) & self.scored).double().mean())

    @property
    def loss(self) -> float:
        """Mean of -log(score of the label) over the scored videos."""
        own = self.scores.gather(1, self.labels[:, None])[self.scored]
        return float(-own.double().clamp_min(1e-12).log().mean()) if len(own) else float("nan")

    @property
    def coverage(self) -> float:
        """The share of the videos that could be decoded."""
        return float(self.scored.double().mean())

    def summary(self) -> dict[str, float]:
        return {"top1": self.top(1), "top5": self.top(5), "loss": self.loss, "coverage": self.coverage}


def evaluate(
    model: nn.Module,
    samples: Iterable[ScoredSample],
    *,
    to_input: Callable[[Tensor], Tensor],
    device: torch.device,
    num_videos: int,
    num_classes: int,
    clips_per_batch: int = 8,
) -> Predictions:
    """Scores this process' share of the videos and gathers all shares, on every process.

    Args:
        model: clips [B, 3, T, H, W] -> logits [B, K].
        samples: this process' videos.
        to_input: uint8 [B, T, H, W, 3] -> normalised float [B, 3, T, H, W], on the device.
        num_videos: N of the whole list.
        clips_per_batch: views in one forward pass, at most.
    """
    distributed.same_buffers(model)
    was_training = model.training
    model.eval()
    facts: dict[int, tuple[int, str | None]] = {}  # of each video: label, error
    sums: dict[int, Tensor] = {}  # of each video: its views' scores
    views: dict[int, int] = {}
    with torch.inference_mode():
        for owners, clips in _packed(samples, facts, clips_per_batch):
            logits_BK = model(to_input(clips.to(device, non_blocking=True))).float()
            for index, scores_K in zip(owners, logits_BK.softmax(dim=1).cpu(), strict=True):
                sums[index] = sums[index] + scores_K if index in sums else scores_K
                views[index] = views.get(index, 0) + 1
    model.train(was_training)
    mine = [
        (index, label, sums[index] / views[index] if error is None else None, error)
        for index, (label, error) in facts.items()
    ]
    return _assemble(distributed.gather(mine), num_videos=num_videos, num_classes=num_classes)


def _packed(
    samples: Iterable[ScoredSample], facts: dict[int, tuple[int, str | None]], size: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Packs the views of successive videos into stacks [B, T, H, W, 3] of one shape, with the video of each.

    Notes label and error of every video in ``facts``. B is ``size`` at most; another shape (whole frames) or the end
    closes a stack early.
    """
    owners: list[int] = []
    clips: list[Tensor] = []
    for sample in samples:
        facts[sample.index] = (sample.label, sample.error)
        for clip in sample.clips:
            if clips and (len(clips) == size or clip.shape != clips[0].shape):
                yield owners, torch.stack(clips)
                owners, clips = [], []
            owners.append(sample.index)
            clips.append(clip)
    if clips:
        yield owners, torch.stack(clips)


def _assemble(
    shares: Sequence[Sequence[tuple[int, int, Tensor | None, str | None]]], *, num_videos: int, num_classes: int
) -> Predictions:
    rows = [row for share in shares for row in share]
    if sorted(index for index, *_ in rows) != list(range(num_videos)):
        raise RuntimeError(f"{len(rows)} results for {num_videos} videos: each must be scored exactly once")
    scores = torch.zeros(num_videos, num_classes)
    labels = torch.zeros(num_videos, dtype=torch.int64)
    scored = torch.zeros(num_videos, dtype=torch.bool)
    errors: dict[int, str] = {}
    for index, label, own, error in rows:
        labels[index] = label
        if own is not None:
            scores[index], scored[index] = own, True
        else:
            errors[index] = error or "unknown"
    return Predictions(scores, labels, scored, errors)


def write_results(
    folder: Path,
    predictions: Predictions,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    facts: dict[str, str | int],
) -> None:
    """Writes results.json, predictions.npz, per_class.csv and unscored.csv of one evaluation.

    ``facts`` go into results.json as they are: the views, the checkpoint and its step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    videos, correct = metrics.per_class_counts(predictions.scores, predictions.labels)
    summary = {
        **facts,
        "num_videos": len(predictions.labels),
        "num_scored": int(predictions.scored.sum()),
        **predictions.summary(),
        "mean_class_accuracy": metrics.mean_class_accuracy(videos, correct),
    }
    np.savez_compressed(
        folder / "predictions.npz",
        scores=predictions.scores.numpy(),
        labels=predictions.labels.numpy(),
        scored=predictions.scored.numpy(),
        paths=np.array(list(names), dtype=np.str_),
    )
    with (folder / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "videos", "correct", "accuracy"])
        for name, total, right in zip(classes, videos.tolist(), correct.tolist(), strict=True):
            writer.writerow([name, total, right, f"{right / total:.4f}" if total else ""])
    with (folder / "unscored.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows([names[index], reason] for index, reason in sorted(predictions.errors.items()))
    # Last: its presence says that the evaluation is complete.
    (folder / "results.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
