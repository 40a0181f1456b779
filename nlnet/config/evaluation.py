"""Evaluations from configs: which videos, read how, with which views."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from nlnet import distributed
from nlnet.config.compose import build
from nlnet.data.annotations import Annotations, VideoList
from nlnet.data.clips import EvalClips
from nlnet.data.loader import eval_loader
from nlnet.data.transforms import EvalViews
from nlnet.engine.evaluator import Predictions, evaluate, write_results
from nlnet.errors import DataError


def build_annotations(data: DictConfig) -> Annotations:
    """The training and validation lists of a ``data`` node, made first where the data set can be made."""
    if data.prepare is not None:
        distributed.on_main(lambda: build(data.prepare))
    annotations: Annotations = build(data.annotations)
    return annotations


def select_validation(annotations: Annotations, classes: Sequence[str]) -> VideoList:
    """The validation list, for a model that knows ``classes``.

    Raises:
        DataError: its classes are others.
    """
    if tuple(annotations.classes) != tuple(classes):
        raise DataError(
            f"{annotations.val.source}: {len(annotations.classes)} classes ({', '.join(annotations.classes[:3])} …), "
            f"but the checkpoint knows {len(classes)} ({', '.join(list(classes)[:3])} …); the names must be the same"
        )
    return annotations.val


def choose_workers(workers: int | str, *, say: Callable[[str], None]) -> int:
    """Decoding processes of each training process: as given, or for ``auto`` the cores that it has to itself."""
    if workers != "auto":
        return int(workers)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = max(1, min(16, cores // processes))
    say(f"workers {chosen}: {cores} cores for {processes} training process(es); workers=N changes it")
    return chosen


@dataclass(frozen=True)
class Evaluation:
    """Scores a model on a list of videos with one set of views."""

    videos: VideoList
    decoder: Any
    views: EvalViews
    to_input: Any
    device: torch.device
    workers: int
    clips_per_batch: int

    def __call__(self, model: nn.Module) -> Predictions:
        clips = EvalClips(self.videos, decoder=self.decoder, views=self.views)
        return evaluate(
            model,
            eval_loader(clips, workers=self.workers),
            to_input=self.to_input,
            device=self.device,
            num_videos=len(self.videos),
            num_classes=len(self.videos.classes),
            clips_per_batch=self.clips_per_batch,
        )

    def write(self, folder: Path, predictions: Predictions, *, checkpoint: str, step: int) -> str:
        """Writes the results into ``folder``, on the main process, and returns them as a line for people."""
        if distributed.is_main():
            write_results(
                folder,
                predictions,
                names=[video.name for video in self.videos.videos],
                classes=self.videos.classes,
                facts={"views": self.views.name, "checkpoint": checkpoint, "step": step},
            )
        return (
            f"{self.views.name} views of {len(self.videos)} videos: top-1 {predictions.top(1):.1%} · "
            f"top-5 {predictions.top(5):.1%} · {predictions.coverage:.1%} of them could be scored · {folder}"
        )


def build_evaluation(
    data: DictConfig,
    videos: VideoList,
    *,
    device: torch.device,
    workers: int,
    views: str = "views",
    clips_per_batch: int = 8,
) -> Evaluation:
    """The evaluation of ``videos`` with the ``views`` (or ``validation``) of a ``data`` node."""
    return Evaluation(
        videos=videos,
        decoder=build(data.decoder),
        views=build(data[views]),
        to_input=build(data.normalize),
        device=device,
        workers=workers,
        clips_per_batch=clips_per_batch,
    )
