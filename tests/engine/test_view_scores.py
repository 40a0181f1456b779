"""Stored views give what a test with these clips, crops and this ensemble would give."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nlnet.engine.predictions import Predictions, label_tensor
from nlnet.engine.view_scores import VIEWS_FILE, ViewScores
from nlnet.errors import ConfigError, DataError
from nlnet.models.ensemble import Largest, MeanLogit, MeanProbability
from nlnet.ops.activation import Sigmoid, Softmax

CLIPS, CROPS = 4, 3


@pytest.fixture
def stored() -> ViewScores:
    """Three videos, the second one not decoded; four clips of three crops; two classes."""
    logits = torch.randn(3, CLIPS * CROPS, 2, generator=torch.Generator().manual_seed(0))
    logits[1] = 0
    predictions = Predictions(
        torch.zeros(3, 2), torch.tensor([1, 0, 1]), torch.tensor([True, False, True]), {1: "truncated"}, logits
    )
    return ViewScores(predictions, CLIPS, CROPS, Softmax(), ("a", "b é", "c"), ("x", "y"))


@pytest.mark.parametrize("ensemble", [MeanProbability(), MeanLogit(), Largest()])
@pytest.mark.parametrize(("clips", "crops"), [(None, None), ([0, 3], [1]), ([2], None), (None, [2, 0])])
def test_any_subset_is_the_test_of_these_views(
    stored: ViewScores, ensemble: MeanProbability, clips: list[int] | None, crops: list[int] | None
) -> None:
    logits = stored.predictions.view_logits
    assert logits is not None
    by_view = logits.reshape(3, CLIPS, CROPS, 2)[:, clips or range(CLIPS)][:, :, crops or range(CROPS)]
    combined = stored.combine(ensemble, clips=clips, crops=crops)
    for video in (0, 2):
        expected = ensemble(by_view[video].reshape(-1, 2), Softmax())
        torch.testing.assert_close(combined.scores[video], expected)
    assert not combined.scores[1].any()
    assert combined.errors == {1: "truncated"}
    assert combined.labels.tolist() == [1, 0, 1]


def test_what_is_saved_is_what_is_loaded(stored: ViewScores, tmp_path: Path) -> None:
    stored.save(tmp_path)
    loaded = ViewScores.load(tmp_path)
    assert loaded.predictions.view_logits is not None
    assert stored.predictions.view_logits is not None
    assert torch.equal(loaded.predictions.view_logits, stored.predictions.view_logits)
    assert torch.equal(loaded.predictions.labels, stored.predictions.labels)
    assert loaded.predictions.errors == {1: "truncated"}
    assert (loaded.num_clips, loaded.num_crops, loaded.activation.name) == (CLIPS, CROPS, "softmax")
    assert (loaded.paths, loaded.classes) == (("a", "b é", "c"), ("x", "y"))
    assert [path.name for path in tmp_path.iterdir()] == [VIEWS_FILE]


def test_several_labels_and_their_activation_are_kept(stored: ViewScores, tmp_path: Path) -> None:
    labels = label_tensor([(0, 1), (), (1,)], 2)
    several = replace(stored, predictions=replace(stored.predictions, labels=labels), activation=Sigmoid())
    several.save(tmp_path)
    loaded = ViewScores.load(tmp_path)
    assert loaded.activation.name == "sigmoid"
    assert torch.equal(loaded.predictions.labels, labels)
    assert loaded.combine(Largest()).summary() == several.combine(Largest()).summary()


def test_wrong_choices_are_refused(stored: ViewScores, tmp_path: Path) -> None:
    for clips, crops, message in (
        ([4], None, "clips 0 to 3; there is no number 4"),
        ([0, -1], None, "there is no number -1"),
        (None, [], "name at least one"),
        (None, [1, 1], "each once"),
    ):
        with pytest.raises(ConfigError, match=message):
            stored.combine(MeanProbability(), clips=clips, crops=crops)
    with pytest.raises(DataError, match="--store-views"):
        ViewScores.load(tmp_path)
    (tmp_path / VIEWS_FILE).write_bytes(b"PK not a file")
    with pytest.raises(DataError, match="cannot be read"):
        ViewScores.load(tmp_path)
