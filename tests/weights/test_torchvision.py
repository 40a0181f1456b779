"""torchvision's ResNets into ours: every name, local files, and the error of each file that cannot be used."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, resnet50, resnet101
from torchvision.models.resnet import Bottleneck, ResNet

from nlnet.errors import CheckpointError, ConfigError
from nlnet.models.inflate import inflate
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.resnet import Stage, Stem, VideoResNet
from nlnet.weights.torchvision import imagenet, our_name


def network(*blocks: int, **options: object) -> VideoResNet:
    stages = {
        f"res{number + 2}": Stage(channels=256 << number, blocks=count, spatial_stride=1 if number == 0 else 2)
        for number, count in enumerate(blocks)
    }
    return VideoResNet(stages, num_classes=9, stem=Stem(), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A torchvision ResNet of one block for each stage, with random weights."""
    torch.manual_seed(0)
    return ResNet(Bottleneck, [1, 1, 1, 1]).state_dict()


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], str]:
    def save_to_file(content: object) -> str:
        torch.save(content, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save_to_file


@pytest.mark.parametrize(("make", "blocks"), [(resnet50, (3, 4, 6, 3)), (resnet101, (3, 4, 23, 3))])
def test_names_are_ours_exactly(make: Callable[[], nn.Module], blocks: tuple[int, ...]) -> None:
    with torch.device("meta"):
        theirs, ours = make().state_dict(), network(*blocks).state_dict()
    assert [our_name(name) for name in theirs if "downsample" not in name] == [
        name for name in ours if "branch1" not in name
    ]
    assert {our_name(name) for name in theirs} == set(ours)
    for name, tensor in theirs.items():
        if not name.startswith("fc."):
            shape = ours[our_name(name)].shape
            assert tensor.shape == (shape[:2] + shape[3:] if len(shape) == 5 else shape), name


def test_all_but_the_classifier_is_loaded_from_a_file(state: dict[str, Tensor], save: Callable[[object], str]) -> None:
    model = network(
        1,
        1,
        1,
        1,
        temporal_kernels={"conv1": 5, "res3": [3]},
        placement={14: {"res4": [0]}},
        non_local=NonLocalBlock,
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = imagenet(model, weights=save(state))
    assert set(result.loaded) == {our_name(name) for name in state if not name.startswith("fc.")}
    assert all(name.startswith(("head.", "res4.nl0.")) for name in result.new)
    assert not result.left_out
    for name, tensor in model.state_dict().items():
        if name in result.new or ".nl0." in name:
            assert torch.equal(tensor, before[name]), name
    for name, tensor in state.items():
        loaded = model.state_dict().get(our_name(name))
        if not name.startswith("fc."):
            expected = inflate(tensor, loaded.shape[2]) if tensor.dim() == 4 else tensor
            assert torch.equal(loaded, expected), name


def test_a_file_of_another_depth_is_refused(state: dict[str, Tensor], save: Callable[[object], str]) -> None:
    path = save(state)
    model = network(1, 2, 1, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"weights\.pth: .*depth.*same depth.*model/init=scratch"):
        imagenet(model, weights=path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_wider_network_is_refused(save: Callable[[object], str]) -> None:
    wide = ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=128).state_dict()
    with pytest.raises(CheckpointError, match="widths differ"):
        imagenet(network(1, 1, 1, 1), weights=save(wide))


@pytest.mark.parametrize(
    "content", [{"features.0.weight": torch.ones(3)}, {"state_dict": {"conv1.weight": torch.ones(3)}}, [1, 2], 3]
)
def test_a_file_of_something_else_is_refused(content: object, save: Callable[[object], str]) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pth: not the state dict of a torchvision ResNet"):
        imagenet(network(1, 1, 1, 1), weights=save(content))


def test_entries_that_are_no_tensors_are_refused(state: dict[str, Tensor], save: Callable[[object], str]) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pth: not the state dict of a torchvision ResNet"):
        imagenet(network(1, 1, 1, 1), weights=save(state | {"epoch": 90}))


def test_an_additional_tensor_is_left_out_and_said(state: dict[str, Tensor], save: Callable[[object], str]) -> None:
    result = imagenet(network(1, 1, 1, 1), weights=save(state | {"layer1.0.se.weight": torch.ones(2, 2, 1, 1)}))
    assert result.left_out == {"res2.0.se.weight": "not in this network"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html>404</html>",
        b"PK\x03\x04 a zip that is none",
        b"\x80\x02.",  # pickles that end, miss their memo or are damaged
        b"\x80\x02h\x05.",
        b"\x80\x02}q\x00(X\xff\xff",
        b"\x80\x02K",
        bytes(range(256)),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_an_unreadable_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth: not a file of tensors that can be read safely"):
        imagenet(network(1, 1, 1, 1), weights=str(path))


@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_files_are_refused(new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.ones(9)}, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    model = network(1, 1, 1, 1)
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            imagenet(model, weights=str(path))


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_a_pickle_bomb_does_not_run(write: Callable[[object, Path], object], tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    path = tmp_path / "weights.pth"
    write({"conv1.weight": Bomb(str(target))}, path)
    with pytest.raises(CheckpointError, match="safely"):
        imagenet(network(1, 1, 1, 1), weights=str(path))
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        "missing.pth",
        "some/folder/missing.pth",
        "resnet50",
        "ResNet50_Weights.NOPE",
        "ResNet49_Weights.IMAGENET1K_V1",
        "resnet.V1",
        "",
    ],
)
def test_an_unknown_name_says_what_to_give(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.init\.weights=.*neither a file nor .*ResNet50_Weights"):
        imagenet(network(1, 1, 1, 1), weights=name)


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RuntimeError('invalid hash value (expected "0676ba61"')]
)
def test_a_failed_download_says_what_to_give(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .*model\.init\.weights=PATH.*model/init=scratch"):
        imagenet(network(1, 1, 1, 1), weights="ResNet50_Weights.IMAGENET1K_V1")
