"""What an evaluation derives from its videos and its config."""

import pytest
import torch

from nlnet.config.compose import compose, plain
from nlnet.config.evaluation import build_evaluation
from nlnet.data.annotations import Video, VideoList
from nlnet.data.loader import Readers
from nlnet.engine.predictions import Label


@pytest.mark.parametrize(("labels", "activation"), [((0, 2), "softmax"), (((0, 2), ()), "sigmoid"), (((),), "sigmoid")])
def test_labels_decide_what_the_logits_mean(labels: tuple[Label, ...], activation: str) -> None:
    videos = tuple(Video(f"{k}.mp4", label, f"{k}.mp4") for k, label in enumerate(labels))  # type: ignore[arg-type]
    config = compose("train", ["data.root=x", "data/views=tsm_dense_10x3"])
    evaluation = build_evaluation(
        config.data, VideoList(videos, ("a", "b", "c"), "here"), device=torch.device("cpu"), readers=Readers()
    )
    assert evaluation.activation.name == activation
    assert evaluation.views.name == "tsm_dense_10x3"
    assert evaluation.protocol == plain(config.data.views)
