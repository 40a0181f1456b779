"""Numbers and files of a test, against counts by hand, for one label and for any number of them."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nlnet.engine.predictions import Predictions, headline, label_tensor, write_results


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


@pytest.fixture
def several() -> Predictions:
    """Four videos, the third one not decoded, and three classes, the last one without videos."""
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.6, 0.3], [0.0, 0.0, 0.0], [0.7, 0.1, 0.2]])
    labels = label_tensor([(0, 1), (0,), (0,), ()], 3)
    return Predictions(scores, labels, torch.tensor([True, True, False, True]), {2: "empty"})


def test_average_precision_counts_unscored_videos_as_last(several: Predictions) -> None:
    # Class 0 is ranked 0, 3, 1, 2: its videos come first, third and fourth. Class 1 comes first.
    precision = (1 + 2 / 3 + 3 / 4) / 3
    assert several.summary()["map"] == pytest.approx((precision + 1) / 2)
    assert headline(several.summary()) == f"mAP {(precision + 1) / 2:.1%}"
    assert headline({"top1": 0.5, "top5": 1.0}) == "top-1 50.0% · top-5 100.0%"


def test_loss_of_several_labels_is_the_binary_cross_entropy(several: Predictions) -> None:
    right = [0.9, 0.8, 0.9, 0.2, 0.4, 0.7, 0.3, 0.9, 0.8]
    assert several.loss == pytest.approx(-sum(map(math.log, right)) / 9)


def test_results_of_several_labels_on_disk(several: Predictions, tmp_path: Path) -> None:
    write_results(tmp_path, several, names=["a", "b", "c", "d"], classes=["x", "y", "z"], facts={"views": "1x1"})
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["map"] == pytest.approx(several.mean_average_precision)
    assert "top1" not in results
    assert results["coverage"] == 0.75
    with (tmp_path / "per_class.csv").open() as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [("x", "3", f"{(1 + 2 / 3 + 3 / 4) / 3:.4f}"), ("y", "1", "1.0000"), ("z", "0", "")]
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["labels"], several.labels.numpy())
    assert (tmp_path / "unscored.csv").read_text().splitlines() == ["path,reason", "c,empty"]


def test_labels_are_numbers_or_rows() -> None:
    assert label_tensor([2, 0], 3).tolist() == [2, 0]
    assert label_tensor([(2,), ()], 3).tolist() == [[False, False, True], [False] * 3]
