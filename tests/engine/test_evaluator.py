"""Evaluation: softmax of each view, mean over a video's views, bad videos count as wrong."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from nlnet.engine.evaluator import Scoring, evaluate
from nlnet.engine.precision import Precision
from nlnet.engine.predictions import Label, Predictions
from nlnet.models.ensemble import Largest
from nlnet.ops.activation import Activation, Sigmoid


@dataclass
class Sample:
    clips: list[Tensor]
    label: Label
    index: int
    error: str | None = None


class Logits(nn.Module):
    """Clips [B, 3, T, H, W] -> the mean of each channel, scaled, as three logits: depends on the clip alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, clips: Tensor) -> Tensor:
        return self.scale * clips.mean(dim=(2, 3, 4))


def to_input(clips: Tensor) -> Tensor:
    return clips.permute(0, 4, 1, 2, 3).float() / 255


def make_samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    samples = []
    for index in range(7):
        size = 4 if index % 3 else 6  # whole frames come in different sizes
        clips = [torch.randint(0, 256, (2, size, 4, 3), generator=generator, dtype=torch.uint8) for _ in range(5)]
        samples.append(Sample(clips, index % 3, index))
    samples[4] = Sample([], 1, 4, "truncated")
    return samples


@pytest.mark.parametrize("clips_per_batch", [1, 3, 64])
def test_scores_are_the_mean_of_the_views_softmax(clips_per_batch: int) -> None:
    samples, model = make_samples(), Logits().train()
    predictions = evaluate(
        model,
        samples,
        to_input=to_input,
        device=torch.device("cpu"),
        num_videos=7,
        num_classes=3,
        clips_per_batch=clips_per_batch,
    )
    assert model.training
    for sample in samples:
        if sample.error:
            assert not predictions.scored[sample.index]
            continue
        views = [model(to_input(clip[None]))[0].softmax(0) for clip in sample.clips]
        torch.testing.assert_close(predictions.scores[sample.index], torch.stack(views).mean(0))
    assert predictions.errors == {4: "truncated"}
    assert predictions.coverage == pytest.approx(6 / 7)


def test_a_video_counted_twice_or_never_is_an_error() -> None:
    samples = make_samples()
    for wrong in (samples[:-1], [*samples[:-1], Sample([], 0, 7, "not in the list")]):
        with pytest.raises(RuntimeError, match="exactly once"):
            evaluate(Logits(), wrong, to_input=to_input, device=torch.device("cpu"), num_videos=7, num_classes=3)


def scored(samples: list[Sample], scoring: Scoring | None = None, precision: Precision | None = None) -> Predictions:
    return evaluate(
        Logits(),
        samples,
        to_input=to_input,
        device=torch.device("cpu"),
        num_videos=len(samples),
        num_classes=3,
        clips_per_batch=3,
        scoring=scoring,
        precision=precision,
    )


def test_scoring_decides_on_pooling_and_ensemble() -> None:
    samples, model = make_samples(), Logits()

    def pooling(network: nn.Module, clips: Tensor, activation: Activation) -> Tensor:
        logits: Tensor = network(clips)
        return 2 * logits

    predictions = scored(samples, Scoring(pooling, Largest(), Sigmoid()))
    for sample in samples:
        if not sample.error:
            views = torch.stack([2 * model(to_input(clip[None]))[0] for clip in sample.clips])
            torch.testing.assert_close(predictions.scores[sample.index], views.sigmoid().amax(0))
    assert predictions.view_logits is None


def test_precision_is_that_of_the_forward_passes() -> None:
    seen: list[torch.dtype] = []

    def pooling(network: nn.Module, clips: Tensor, activation: Activation) -> Tensor:
        logits: Tensor = network(clips)
        seen.append((logits @ logits.mT).dtype)
        return logits

    bf16 = Precision("bf16", torch.device("cpu"))
    for precision, dtype in ((None, torch.float32), (bf16, torch.bfloat16)):
        scored(make_samples(), Scoring(pooling), precision)
        assert set(seen) == {dtype}
        seen.clear()


def test_views_are_kept_where_they_are_wanted() -> None:
    samples, model = make_samples(), Logits()
    predictions = scored(samples, Scoring(keep_views=True))
    assert torch.equal(predictions.scores, scored(samples).scores)
    assert predictions.view_logits is not None
    assert predictions.view_logits.shape == (7, 5, 3)
    for sample in samples:
        for clip, kept in zip(sample.clips, predictions.view_logits[sample.index], strict=False):
            torch.testing.assert_close(kept, model(to_input(clip[None]))[0])
    assert not predictions.view_logits[4].any()


def test_videos_with_any_number_of_labels() -> None:
    samples = make_samples()
    for sample, label in zip(samples, [(0,), (), (1, 2), (0, 1, 2), (1,), (2,), (0, 2)], strict=True):
        sample.label = label
    predictions = scored(samples, Scoring(activation=Sigmoid()))
    assert predictions.multi_label
    assert predictions.labels.int().tolist() == [
        [1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 1]
    ]  # fmt: skip
    assert set(predictions.summary()) == {"map", "loss", "coverage"}
