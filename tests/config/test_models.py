"""A trained network in Python: scores of a video, its clips, and what the network makes of them."""

import json
from pathlib import Path

import pytest
import torch

import nlnet
from nlnet.cli import run
from nlnet.config.models import TrainedModel
from nlnet.errors import ConfigError, VideoError


@pytest.fixture(scope="module")
def trained(checkpoint: Path) -> TrainedModel:
    return nlnet.load(checkpoint)


@pytest.fixture(scope="module")
def video(class_folder: Path) -> Path:
    return class_folder / "grass" / "clip 3.mp4"


def test_a_loaded_network_says_what_it_is(trained: TrainedModel, checkpoint: Path) -> None:
    assert trained.classes == ("blue sky", "grass", "red_wall")
    assert (trained.path, trained.step, trained.device) == (checkpoint, 7, torch.device("cpu"))
    assert not trained.model.training


@torch.no_grad()
def test_a_prediction_is_the_mean_of_the_softmax_of_all_views(trained: TrainedModel, video: Path) -> None:
    clips = trained.clips(video, views="10x3")
    assert (clips.dtype, clips.shape) == (torch.uint8, (30, 4, 32, 32, 3))
    each = [trained.model(trained.normalize(clip[None])).softmax(1)[0] for clip in clips]
    expected = torch.stack(each).mean(0)
    named = trained.predict(video, views="10x3")
    scores = torch.tensor([score for _, score in named])
    torch.testing.assert_close(scores, expected.sort(descending=True).values)
    assert scores[0] > scores[1] > scores[2]
    assert [name for name, _ in named] == [trained.classes[k] for k in expected.argsort(descending=True)]
    assert trained.predict(str(video), top=1)[0][0] == trained.predict(video)[0][0]
    assert len(trained.predict(video, top=2)) == 2


def test_the_command_says_the_same(
    trained: TrainedModel, checkpoint: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", [str(checkpoint), str(video), "--json", "--top", "2"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(each["class"], pytest.approx(each["score"])) for each in answer["top"]] == trained.predict(video, top=2)


def test_a_video_that_cannot_be_decoded_is_an_error_with_its_name(trained: TrainedModel, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    for call in (trained.predict, trained.clips):
        with pytest.raises(VideoError, match=r"bad\.mp4: "):
            call(bad)
    with pytest.raises(VideoError, match=r"gone\.mp4: no such file"):
        trained.predict(tmp_path / "gone.mp4")


@torch.no_grad()
def test_features_are_what_the_classifier_gets(trained: TrainedModel, video: Path) -> None:
    clips = trained.clips(video, views="10x1")
    features = trained.features(clips)
    x = trained.normalize(clips)
    torch.testing.assert_close(trained.model.head(features), trained.model(x))
    assert torch.equal(trained.features(x), features)
    maps = trained.features(clips, stage=trained.model.stage_names[-1])
    assert maps.dim() == 5
    torch.testing.assert_close(maps.mean(dim=(2, 3, 4)), features)


def test_maps_of_a_part_are_those_before_the_next_writes_into_them(trained: TrainedModel, video: Path) -> None:
    x = trained.normalize(trained.clips(video))
    maps = trained.features(x, stage="stem.bn")
    with torch.no_grad():
        torch.testing.assert_close(maps, trained.model.stem.bn(trained.model.stem.conv(x)))
    assert maps.min() < 0, "the rectifier behind works in place"
    assert not any(module._forward_hooks for module in trained.model.modules())
    with pytest.raises(ConfigError, match="res9: the network has no such part; it has stem, res2"):
        trained.features(x, stage="res9")


def test_a_classifier_can_be_trained_on_features(trained: TrainedModel, video: Path) -> None:
    features = trained.features(trained.clips(video))
    head = torch.nn.Linear(features.shape[1], 2)
    head(features).sum().backward()
    assert head.weight.grad is not None
    assert all(parameter.grad is None for parameter in trained.model.parameters())
