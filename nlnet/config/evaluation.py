"""Evaluations from configs: which videos, read how, with which views."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from nlnet import distributed
from nlnet.config.compose import build, compose, plain
from nlnet.data.annotations import Annotations, VideoList
from nlnet.data.clips import EvalClips, EvalSample
from nlnet.data.decoders import Decoder
from nlnet.data.decoders.time_limit import LimitedDecoder
from nlnet.data.loader import Readers, eval_loader
from nlnet.data.transforms import EvalViews
from nlnet.engine.evaluator import Scoring, evaluate
from nlnet.engine.precision import Precision
from nlnet.engine.predictions import Predictions, headline, write_results
from nlnet.engine.view_scores import VIEWS_FILE, ViewScores
from nlnet.errors import ConfigError, DataError, Preempted
from nlnet.models.ensemble import MeanProbability
from nlnet.models.pooling import GlobalPool
from nlnet.ops.activation import Activation, Sigmoid, Softmax
from nlnet.report.mistakes import draw_mistakes


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


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_readers(workers: int | str, threads: int | str, *, say: Callable[[str], None]) -> Readers:
    """Who decodes for each training process: as given, or for ``auto`` as many as it has cores to itself.

    One thread in each worker: a second one pays where files are far away (docs/data.md has figures).
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = available_cores()
    available = max(1, min(16, cores // processes))
    if workers == threads == "auto":
        readers = Readers(workers=available, threads=1)
    elif workers == "auto":
        readers = Readers(max(1, available // max(1, int(threads))), int(threads))
    else:
        readers = Readers(int(workers), 0 if threads == "auto" else int(threads))
    if "auto" in (workers, threads):
        say(
            f"workers {readers.workers}, threads {readers.threads}: {cores} cores for {processes} training "
            "process(es); workers=N threads=N changes them, nlnet benchmark loader measures"
        )
    return readers


def build_decoder(data: DictConfig) -> Decoder:
    """The decoder of a ``data`` node, with its limit of time."""
    decoder: Decoder = build(data.decoder)
    seconds = data.get("max_seconds_per_video", 300)  # of checkpoints from before there was one
    return decoder if seconds is None else LimitedDecoder(decoder, seconds)


@dataclass(frozen=True)
class Evaluation:
    """Scores a model on a list of videos with one protocol of views.

    ``protocol`` is the config of the views, for the record.
    """

    videos: VideoList
    decoder: Any
    views: EvalViews
    protocol: dict[str, Any]
    to_input: Any
    device: torch.device
    readers: Readers
    clips_per_batch: int
    precision: Precision
    asked_to_stop: Callable[[], bool] = lambda: False

    @property
    def activation(self) -> Activation:
        """Sigmoid where the videos have any number of labels (tuples), else softmax."""
        return Sigmoid() if any(not isinstance(video.label, int) for video in self.videos.videos) else Softmax()

    def __call__(self, model: nn.Module, *, keep_views: bool = False) -> Predictions:
        clips = EvalClips(self.videos, decoder=self.decoder, views=self.views)
        return evaluate(
            model,
            _until_asked(eval_loader(clips, readers=self.readers), self.asked_to_stop),
            to_input=self.to_input,
            device=self.device,
            num_videos=len(self.videos),
            num_classes=len(self.videos.classes),
            clips_per_batch=self.clips_per_batch,
            scoring=Scoring(
                self.views.pooling or GlobalPool(),
                self.views.ensemble or MeanProbability(),
                self.activation,
                keep_views,
            ),
            precision=self.precision,
        )

    def write(self, folder: Path, predictions: Predictions, *, model: nn.Module, checkpoint: str, step: int) -> str:
        """Writes the results into ``folder``, on the main process, and returns them as a line for people.

        The scores of the single views too, where the predictions have them, and pictures of the model's mistakes.
        """
        names = tuple(video.name for video in self.videos.videos)
        if distributed.is_main():
            write_results(
                folder,
                predictions,
                names=names,
                classes=self.videos.classes,
                facts={"views": self.views.name, "checkpoint": checkpoint, "step": step, "protocol": self.protocol},
            )
            (folder / VIEWS_FILE).unlink(missing_ok=True)  # of an earlier test, perhaps of other weights
            if predictions.view_logits is not None:
                shape = (self.views.clips, self.views.crops.num_crops)
                ViewScores(predictions, *shape, self.activation, names, tuple(self.videos.classes)).save(folder)
            draw_mistakes(folder, model, read=self._clip, to_input=self.to_input, device=self.device)
        return result_line(self.views.name, predictions, folder)

    def _clip(self, number: int) -> Tensor:
        """The middle view of a video of the list: uint8 [T, H, W, 3]."""
        return read_view(self.videos.videos[number].path, self.decoder, self.views)


def read_view(path: str, decoder: Decoder, views: EvalViews, *, number: int | None = None) -> Tensor:
    """One view of a video, by its number from 0, or else the one in the middle: uint8 [T, H, W, 3].

    Raises:
        VideoError: it cannot be decoded.
        ConfigError: the protocol has fewer views.
    """
    with decoder.open(path) as reader:
        listed = views(reader.info)
        number = len(listed) // 2 if number is None else number
        if not 0 <= number < len(listed):
            raise ConfigError(f"view {number}: the protocol has the views 0 to {len(listed) - 1}")
        return torch.from_numpy(reader.read(listed[number]))


def _until_asked(samples: Iterable[EvalSample], asked_to_stop: Callable[[], bool]) -> Iterator[EvalSample]:
    for sample in samples:
        yield sample
        if asked_to_stop():
            raise Preempted("asked to stop in the middle of an evaluation; the same command does it again")


def result_line(views: str, predictions: Predictions, folder: Path) -> str:
    """One line on a test for people."""
    return (
        f"{views} views of {len(predictions.scored)} videos: {headline(predictions.summary())} · "
        f"{predictions.coverage:.1%} of them could be scored · {folder}"
    )


def build_evaluation(
    data: DictConfig,
    videos: VideoList,
    *,
    device: torch.device,
    readers: Readers,
    views: str = "views",
    clips_per_batch: int = 8,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """The evaluation of ``videos`` with the ``views`` (or ``validation``) of a ``data`` node."""
    protocol: EvalViews = build(data[views])
    return Evaluation(
        videos=videos,
        decoder=build_decoder(data),
        views=protocol,
        protocol=plain(data[views]),
        to_input=build(data.normalize),
        device=device,
        readers=readers,
        clips_per_batch=clips_per_batch,
        precision=Precision(protocol.precision, device, key=f"data.{views}.precision"),
        asked_to_stop=asked_to_stop,
    )


def combine_views(
    stored: Path, *, clips: Sequence[int] | None, crops: Sequence[int] | None, ensemble: str, out: Path | None = None
) -> str:
    """Scores some of the stored views of a test again and writes the results -> a line for people.

    Args:
        stored: the folder with views.npz.
        clips, crops: their numbers from 0; None for all.
        ensemble: an option of data/views/ensemble.
        out: where the results go; None for a folder beside ``stored`` that is named after the choice.
    """
    scores = ViewScores.load(stored)
    node = compose(None, [f"+data/views/ensemble={ensemble}"]).data.views.ensemble
    predictions = scores.combine(build(node), clips=clips, crops=crops)
    clips = list(range(scores.num_clips)) if clips is None else list(clips)
    crops = list(range(scores.num_crops)) if crops is None else list(crops)
    parts = [f"{len(clips)}x{len(crops)}", "of", stored.resolve().name]
    if len(clips) < scores.num_clips:
        parts.append("clips" + ".".join(map(str, clips)))
    if len(crops) < scores.num_crops:
        parts.append("crops" + ".".join(map(str, crops)))
    name = "-".join([*parts, ensemble])
    original = read_facts(stored)
    folder = out or stored.resolve().parent / name
    facts = {**original, "views": name, "from": stored.name, "clips": clips, "crops": crops, "ensemble": ensemble}
    write_results(folder, predictions, names=scores.paths, classes=scores.classes, facts=facts)
    return result_line(name, predictions, folder)


def read_facts(stored: Path) -> dict[str, Any]:
    """The checkpoint, its step and the protocol of a test on disk; nothing where results.json is missing."""
    try:
        results = json.loads((stored / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: results[key] for key in ("checkpoint", "step", "protocol") if key in results}
