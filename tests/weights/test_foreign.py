"""Files find their format; those of no format, or of networks that are none of ours, are refused with the reason."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.video import resnet as video

from nlnet.errors import CheckpointError
from nlnet.weights.foreign import Foreign, formats, read_foreign, with_zero_bias
from tests.weights import restated
from tests.weights.restated import FIVE, Plan, random_state

SMALL = Plan(kernels=((1,), (1,), (1,), (1,)))
MMACTION2 = restated.mmaction2(flat=False)


def save(content: Any, tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("layout", "origin"),
    [
        (restated.PYTH, "SlowFast"),
        (MMACTION2, "MMAction2"),
        (restated.HUB, "pytorchvideo"),
        (restated.CAFFE2, "Caffe2"),
    ],
    ids=["slowfast", "mmaction2", "pytorchvideo", "caffe2"],
)
@pytest.mark.parametrize("container", ["model_state", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_format_is_found_from_the_names(
    layout: restated.Layout, origin: str, container: str | None, prefix: str, tmp_path: Path
) -> None:
    state = {prefix + name: tensor for name, tensor in random_state(layout, SMALL).items()}
    content = state if container is None else {container: state, "epoch": 3, "optimizer_state": {"state": {}}}
    foreign = read_foreign(save(content, tmp_path))
    assert foreign.origin == origin
    assert len(foreign.tensors) == len(state)
    assert not foreign.left_out
    assert sum(form.recognises(random_state(layout, SMALL)) for form in formats()) == 1


def test_the_formats_and_those_to_write() -> None:
    assert [form.name for form in formats()] == [
        "caffe2",
        "mmaction2",
        "pytorchvideo",
        "slowfast",
        "torchvision",
        "torchvision_video",
    ]
    assert [form.name for form in formats() if form.export] == ["mmaction2", "slowfast"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.weight": torch.ones(2)}, r"its names \(a\.weight …\) are of no known format; known are caffe2, mmaction2"),
        ({"epoch": 3}, "no tensors in it, nor under model_state, state_dict"),
        ([torch.ones(2)], "no tensors in it"),
        ({"format": 1, "card": {}, "model": {}}, "a checkpoint of nlnet already"),
    ],
)
def test_files_of_no_format_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_foreign(save(content, tmp_path))


def test_missing_and_dangerous_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_foreign(tmp_path / "missing.pkl")

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        write({"conv1_w": Bomb()}, tmp_path / "model.pkl")
        with pytest.raises(CheckpointError, match=r"safely \(it names .*run[^\n]*$") as raised:
            read_foreign(tmp_path / "model.pkl")
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "exploded").exists()


def changed(layout: restated.Layout, changes: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**random_state(layout, SMALL), **changes}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(restated.PYTH, {"s1.pathway1_stem.conv.weight": torch.ones(1)}), "two pathways"),
        (changed(MMACTION2, {"backbone.layer1.0.conv1.conv.net.weight": torch.ones(1)}), "shifts channels over time"),
        (changed(restated.HUB, {"blocks.2.res_blocks.0.branch2.conv_a.weight": torch.ones(1)}), r"\[1, 2, 3, 4, 5\]"),
        (ResNet(BasicBlock, [1, 1, 1, 1]).state_dict(), "basic blocks .18 or 34 layers"),
        (
            video.VideoResNet(video.BasicBlock, [video.Conv3DSimple] * 4, [1] * 4, video.BasicStem).state_dict(),
            "basic blocks, such as r3d_18",
        ),
        (
            video.VideoResNet(video.BasicBlock, [video.Conv2Plus1D] * 4, [1] * 4, video.R2Plus1dStem).state_dict(),
            "basic blocks, such as r3d_18, mc3_18 and r2plus1d_18",
        ),
        (
            video.VideoResNet(video.Bottleneck, [video.Conv3DSimple] * 4, [1] * 4, video.BasicStem).state_dict(),
            r"layer2\.0\.conv2\.0\.weight is 3x3x3, where torchvision strides in time",
        ),
        (
            video.VideoResNet(video.Bottleneck, [video.Conv3DNoTemporal] * 4, [1] * 4, video.R2Plus1dStem).state_dict(),
            r"stem\.3\.weight is of a factorised convolution",
        ),
    ],
    ids=["two pathways", "TSM", "stages", "ResNet-18", "r3d_18", "r2plus1d_18", "strides in time", "factorised stem"],
)
def test_networks_that_are_none_of_ours_are_refused(state: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_foreign(save(state, tmp_path))


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    state = random_state(MMACTION2, Plan(non_local=FIVE))
    pooled = next(name for name in state if name.endswith("non_local_block.g.0.conv.weight"))
    state[pooled.replace(".g.0.", ".g.")] = state[pooled]
    with pytest.raises(CheckpointError, match="a second time under another name"):
        read_foreign(save(state, tmp_path))


def test_blocks_that_pool_no_keys_are_known_by_their_names(tmp_path: Path) -> None:
    state = random_state(MMACTION2, Plan(non_local=FIVE))
    assert read_foreign(save(state, tmp_path)).choices["model.non_local.subsample"] == ("last",)
    flat = {name.replace(".g.0.", ".g.").replace(".phi.0.", ".phi."): tensor for name, tensor in state.items()}
    foreign: Foreign = read_foreign(save(flat, tmp_path))
    assert foreign.choices["model.non_local.subsample"] == ("none",)
    assert not foreign.left_out


def test_other_tensors_are_left_out_and_said(tmp_path: Path) -> None:
    state = changed(MMACTION2, {"data_preprocessor.mean": torch.ones(3), "ema.step": torch.ones(1)})
    foreign = read_foreign(save({"state_dict": state}, tmp_path))
    assert set(foreign.left_out) == {"data_preprocessor.mean", "ema.step"}


def test_a_missing_bias_of_w_z_is_zero() -> None:
    wanted = {"res3.nl1.out.bias": torch.ones(4), "res3.nl1.out.weight": torch.ones(4, 2), "head.bias": torch.ones(2)}
    filled = with_zero_bias({"res3.nl1.out.weight": wanted["res3.nl1.out.weight"]}, wanted)
    assert set(filled) == {"res3.nl1.out.bias", "res3.nl1.out.weight"}
    assert torch.equal(filled["res3.nl1.out.bias"], torch.zeros(4))
    kept = with_zero_bias({"res3.nl1.out.bias": torch.full((4,), 3.0)}, wanted)
    assert torch.equal(kept["res3.nl1.out.bias"], torch.full((4,), 3.0))
