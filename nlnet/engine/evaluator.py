"""Evaluation: the scores of a video's views become its own, each video exactly once on any number of processes.

Axes: V views of a video, B views in one forward pass, K classes, N videos of the list.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from nlnet import distributed
from nlnet.engine.precision import Precision
from nlnet.engine.predictions import Label, Predictions, label_tensor
from nlnet.errors import Preempted
from nlnet.models.ensemble import MeanProbability
from nlnet.models.inference import for_inference
from nlnet.models.pooling import GlobalPool
from nlnet.ops.activation import Activation, Softmax


class ScoredSample(Protocol):
    """One video as the evaluator takes it: see ``nlnet.data.clips.EvalSample``."""

    @property
    def clips(self) -> list[Tensor]: ...
    @property
    def label(self) -> Label: ...
    @property
    def index(self) -> int: ...
    @property
    def error(self) -> str | None: ...


@dataclass(frozen=True)
class Scoring:
    """How a network's outputs become the scores of a video: view by view, then all views of a video.

    Attributes:
        pooling: network, clips [B, 3, T, H, W], activation -> logits of each view [B, K].
        ensemble: logits of the views [..., V, K], activation -> scores of the video [..., K].
        activation: what the logits mean.
        keep_views: whether the logits of the views are kept, for ``ViewScores``.
    """

    pooling: Callable[[nn.Module, Tensor, Activation], Tensor] = field(default_factory=GlobalPool)
    ensemble: Callable[[Tensor, Activation], Tensor] = field(default_factory=MeanProbability)
    activation: Activation = field(default_factory=Softmax)
    keep_views: bool = False


@dataclass
class _Video:
    """One video of this process' share, while its views come in."""

    label: Label
    num_views: int
    error: str | None
    logits: list[Tensor]  # of the views so far; given up once they are all here, unless they are kept
    scores: Tensor | None = None


def evaluate(
    model: nn.Module,
    samples: Iterable[ScoredSample],
    *,
    to_input: Callable[[Tensor], Tensor],
    device: torch.device,
    num_videos: int,
    num_classes: int,
    clips_per_batch: int = 8,
    scoring: Scoring | None = None,
    precision: Precision | None = None,
) -> Predictions:
    """Scores this process' share of the videos and gathers all shares, on every process.

    Args:
        model: clips [B, 3, T, H, W] -> logits [B, K].
        samples: this process' videos. They may end with Preempted, which all processes then raise together.
        to_input: uint8 [B, T, H, W, 3] -> normalised float [B, 3, T, H, W], on the device.
        num_videos: N of the whole list.
        clips_per_batch: views in one forward pass, at most.
        scoring: None for the mean of the softmax of the model's logits.
        precision: of the forward passes; None for float32.
    """
    scoring = scoring or Scoring()
    distributed.same_buffers(model)
    was_training = model.training
    model.eval()
    autocast = (precision or Precision("fp32", device)).autocast
    with autocast():
        folded = for_inference(model)
    videos: dict[int, _Video] = {}
    stopped = ""
    try:
        with torch.inference_mode():
            for owners, clips in _packed(samples, videos, clips_per_batch):
                inputs = to_input(clips.to(device, non_blocking=True))
                with autocast():
                    logits_BK = scoring.pooling(folded, inputs, scoring.activation).float().cpu()
                for index, logits_K in zip(owners, logits_BK, strict=True):
                    _add(videos[index], logits_K, scoring)
    except Preempted as error:  # the others are to know before anybody leaves
        stopped = str(error)
    model.train(was_training)
    mine = [(index, video.label, video.scores, video.error) for index, video in videos.items()]
    shares = distributed.gather((stopped, mine))
    for reason, _ in shares:
        if reason:
            raise Preempted(reason)
    predictions = _assemble([share for _, share in shares], num_videos=num_videos, num_classes=num_classes)
    if not scoring.keep_views:
        return predictions
    kept = {index: torch.stack(video.logits) for index, video in videos.items() if video.logits}
    return _with_views(predictions, distributed.gather_on_main(kept))


def _add(video: _Video, logits_K: Tensor, scoring: Scoring) -> None:
    """Adds a view; the last one makes the scores of the video."""
    video.logits.append(logits_K)
    if len(video.logits) == video.num_views:
        video.scores = scoring.ensemble(torch.stack(video.logits), scoring.activation)
        if not scoring.keep_views:
            video.logits.clear()


def _packed(
    samples: Iterable[ScoredSample], videos: dict[int, _Video], size: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Packs the views of successive videos into stacks [B, T, H, W, 3] of one shape, with the video of each.

    Notes every video in ``videos``. B is ``size`` at most; another shape (whole frames) or the end closes a stack
    early.
    """
    owners: list[int] = []
    clips: list[Tensor] = []
    for sample in samples:
        videos[sample.index] = _Video(sample.label, len(sample.clips), sample.error, [])
        for clip in sample.clips:
            if clips and (len(clips) == size or clip.shape != clips[0].shape):
                yield owners, torch.stack(clips)
                owners, clips = [], []
            owners.append(sample.index)
            clips.append(clip)
    if clips:
        yield owners, torch.stack(clips)


def _assemble(
    shares: Sequence[Sequence[tuple[int, Label, Tensor | None, str | None]]], *, num_videos: int, num_classes: int
) -> Predictions:
    rows = sorted((row for share in shares for row in share), key=lambda row: row[0])
    if [index for index, *_ in rows] != list(range(num_videos)):
        raise RuntimeError(f"{len(rows)} results for {num_videos} videos: each must be scored exactly once")
    scores = torch.zeros(num_videos, num_classes)
    scored = torch.zeros(num_videos, dtype=torch.bool)
    errors: dict[int, str] = {}
    for index, _, own, error in rows:
        if own is not None:
            scores[index], scored[index] = own, True
        else:
            errors[index] = error or "unknown"
    return Predictions(scores, label_tensor([label for _, label, *_ in rows], num_classes), scored, errors)


def _with_views(predictions: Predictions, shares: Sequence[dict[int, Tensor]]) -> Predictions:
    """The predictions with the views' logits [N, V, K], zero where a video was not scored, on the main process."""
    kept = {index: logits for share in shares for index, logits in share.items()}
    if not kept:
        return predictions
    num_videos, num_classes = predictions.scores.shape
    num_views = max(len(logits) for logits in kept.values())
    views = torch.zeros(num_videos, num_views, num_classes)
    for index, logits in kept.items():
        views[index] = logits
    return Predictions(predictions.scores, predictions.labels, predictions.scored, predictions.errors, views)
