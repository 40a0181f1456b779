"""Evaluation: softmax of each view, mean over a video's views, bad videos count as wrong."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nlnet.engine.evaluator import Predictions, evaluate, write_results


@dataclass
class Sample:
    clips: list[Tensor]
    label: int
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


def test_results_on_disk_are_those_of_a_count_by_hand(tmp_path: Path) -> None:
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.0, 0.0, 0.0]])
    predictions = Predictions(scores, torch.tensor([0, 1, 1, 2]), torch.tensor([True, True, True, False]), {3: "empty"})
    assert predictions.top(1) == 0.5
    assert predictions.top(2) == 0.75
    assert predictions.top(5) == 0.75  # the unscored one is wrong even with more guesses than classes
    write_results(
        tmp_path, predictions, names=["a", "b b", "ü", "d"], classes=["x", "y", "z"], facts={"views": "1x1", "step": 4}
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["top1"] == 0.5
    assert results["coverage"] == 0.75
    assert results["num_scored"] == 3
    assert results["mean_class_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    with (tmp_path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["videos"], row["correct"]) for row in rows] == [
        ("x", "1", "1"), ("y", "2", "1"), ("z", "1", "0")
    ]  # fmt: skip
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as saved:
        assert saved["paths"].tolist() == ["a", "b b", "ü", "d"]
        np.testing.assert_array_equal(saved["scores"], scores.numpy())
    assert (tmp_path / "unscored.csv").read_text().splitlines() == ["path,reason", "d,empty"]
