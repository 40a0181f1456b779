"""The networks of table 1: sizes through the stages, placements, freezing, and 2-D features on static videos."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck as Bottleneck2d
from torchvision.models.resnet import ResNet

from nlnet.config.compose import compose
from nlnet.config.models import build_model
from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.resnet import Stage, Stem, VideoResNet, depth
from nlnet.weights.torchvision import imagenet

MakeNetwork = Callable[..., VideoResNet]
STAGES = ("stem", "res2", "res3", "res4", "res5")


def sizes(model: nn.Module, clip: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """(T, H, W) behind each part, for a clip of (T, H, W); on the meta device, so that nothing is computed."""
    seen = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, tuple(output.shape[2:]))
        )
        for name in (*STAGES, "stem.conv")
    ]
    assert model(torch.empty(1, 3, *clip, device="meta")).shape == (1, 400)
    for hook in hooks:
        hook.remove()
    return seen


def configured(*overrides: str) -> nn.Module:
    config = compose("train", [*overrides, "model/init=scratch", "data.root=x"])
    with torch.device("meta"):
        return build_model(config.model, num_classes=400)[0]


@pytest.mark.parametrize(
    ("strides", "frames", "times", "pool1"),
    [
        ("authors_8", 8, {"stem.conv": 8, "stem": 8, "res2": 4, "res3": 4, "res4": 4, "res5": 4}, 55),
        ("authors_8", 32, {"stem.conv": 32, "stem": 32, "res2": 16, "res3": 16, "res4": 16, "res5": 16}, 55),
        ("authors_32", 32, {"stem.conv": 16, "stem": 8, "res2": 4, "res3": 4, "res4": 4, "res5": 4}, 55),
        ("authors_32", 128, {"stem.conv": 64, "stem": 32, "res2": 16, "res3": 16, "res4": 16, "res5": 16}, 55),
        ("paper_32", 32, {"stem.conv": 16, "stem": 8, "res2": 4, "res3": 4, "res4": 4, "res5": 4}, 56),
    ],
)
@pytest.mark.parametrize("network", ["c2d_r50", "i3d_r50"])
def test_sizes_through_the_stages(network: str, strides: str, frames: int, times: dict[str, int], pool1: int) -> None:
    """Pool2 is behind res2, so res2's blocks themselves still see the frames of pool1."""
    places = {"stem.conv": 112, "stem": pool1, "res2": pool1, "res3": 28, "res4": 14, "res5": 7}
    expected = {name: (times[name], places[name], places[name]) for name in places}
    assert sizes(configured(f"model={network}", f"model/strides={strides}"), (frames, 224, 224)) == expected


def test_sizes_of_the_authors_test_crops() -> None:
    """256 pixels: 128, 63, 32, 16, 8 (and a whole frame of 256 × 341 for the fully-convolutional test)."""
    model = configured("model=i3d_r50", "model/placement=five")
    assert [size[1] for name, size in sizes(model, (8, 256, 256)).items()] == [128, 63, 63, 32, 16, 8]
    assert sizes(model, (8, 256, 341))["res5"] == (4, 8, 11)


@pytest.mark.parametrize("clip", [(2, 32, 32), (3, 33, 47), (8, 64, 48), (5, 20, 91), (9, 8, 8)])
@pytest.mark.parametrize("inflation", ["3x1x1", "3x3x3"])
def test_any_input_size_works(make_network: MakeNetwork, clip: tuple[int, int, int], inflation: str) -> None:
    model = make_network(
        50,
        temporal_kernels={"conv1": 5, "res2": [3, 3, 3], "res4": [3, 1, 3, 1, 3, 1]},
        inflation=inflation,
        placement={50: {"res2": [1], "res3": [1, 3], "res5": [2]}},
        non_local=NonLocalBlock,
    )
    assert model(torch.randn(2, 3, *clip)).shape == (2, 5)


def test_depth_counts_convolutions_and_the_classifier(make_network: MakeNetwork) -> None:
    for number in (11, 50, 101):
        model = make_network(number)
        layers = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv3d | nn.Linear) and "branch1" not in name
        ]
        assert len(layers) == number


def test_temporal_kernels_and_inflation(make_network: MakeNetwork) -> None:
    kernels = {"conv1": 5, "res3": [3, 1, 3, 1]}
    for inflation, inflated, plain in (("3x1x1", "a", "b"), ("3x3x3", "b", "a")):
        model = make_network(50, temporal_kernels=kernels, inflation=inflation)
        times = [getattr(block, inflated).kernel_size[0] for block in model.get_submodule("res3")]
        assert times == [3, 1, 3, 1]
        assert all(getattr(block, plain).kernel_size[0] == 1 for block in model.get_submodule("res3"))
        assert all(block.a.kernel_size[0] == block.b.kernel_size[0] == 1 for block in model.get_submodule("res4"))
        assert model.get_submodule("stem.conv").kernel_size[0] == 5


def test_spatial_stride_is_on_the_3x3_convolution(make_network: MakeNetwork) -> None:
    first = make_network(50).get_submodule("res3")[0]
    assert (first.a.stride, first.b.stride, first.c.stride) == ((1, 1, 1), (1, 2, 2), (1, 1, 1))
    assert first.branch1.stride == (1, 2, 2)


def test_blocks_follow_the_residual_blocks_of_their_index(make_network: MakeNetwork) -> None:
    model = make_network(50, placement={50: {"res3": [1, 3], "res4": [4]}}, non_local=NonLocalBlock)
    assert [name for name, _ in model.get_submodule("res3").named_children()] == ["0", "1", "nl1", "2", "3", "nl3"]
    assert [name for name, _ in model.get_submodule("res4").named_children()] == ["0", "1", "2", "3", "4", "nl4", "5"]
    assert not any("nl" in name for name, _ in model.get_submodule("res2").named_children())


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({101: {"res3": [1]}}, r"model\.placement has rows for depth 101, none for .* depth 50.*model\.placement\.50"),
        ({50: {"res6": [0]}}, r"model\.placement\.50\.res6: the network has the stages res2, res3, res4, res5"),
        ({50: {"res3": [4]}}, r"model\.placement\.50\.res3: block 4 does not exist; res3 has the blocks 0 to 3"),
        ({50: {"res3": [-1]}}, r"model\.placement\.50\.res3: block -1 does not exist"),
    ],
)
def test_placement_errors_name_the_key(
    make_network: MakeNetwork, placement: dict[int, dict[str, list[int]]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(50, placement=placement, non_local=NonLocalBlock)


def test_placement_without_a_block_is_refused(make_network: MakeNetwork) -> None:
    with pytest.raises(ConfigError, match="non_local"):
        make_network(50, placement={50: {"res3": [1]}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temporal_kernels": {"res3": [3, 1]}}, r"temporal_kernels\.res3 has 2 entries for 4 blocks"),
        ({"temporal_kernels": {"res3": 3}}, r"temporal_kernels\.res3 has 1 entries for 4 blocks"),
        ({"temporal_kernels": {"res33": [3, 1, 3, 1]}}, r"temporal_kernels\.res33: the network has conv1, res2, res3"),
        ({"temporal_kernels": {"res3": [2, 1, 2, 1]}}, r"temporal_kernels\.res3.*odd"),
        ({"inflation": "3x1"}, r"inflation.*3x1x1"),
    ],
)
def test_wrong_inflation_is_refused(make_network: MakeNetwork, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(50, **options)


def test_initial_weights_are_the_authors(make_network: MakeNetwork) -> None:
    model = make_network(50, placement={50: {"res3": [1]}}, non_local=NonLocalBlock, num_classes=400)
    for name, parameter in model.named_parameters():
        if name.endswith((".c_bn.weight", "nl1.bn.weight", "bias")):
            assert not parameter.any(), name
        elif "bn" in name:
            assert (parameter == 1).all(), name
        elif name == "head.weight":
            assert 0.009 < parameter.std() < 0.011
    clip = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(model.train()(clip).shape, torch.Size([2, 400]))


def test_dropout_acts_in_training_only(make_network: MakeNetwork) -> None:
    model = make_network(11, dropout=0.5).eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(model(clip), model(clip))
    kept = model.train()
    for module in kept.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    assert not torch.equal(kept(clip), kept(clip))


def test_freeze_keeps_weights_and_statistics(
    make_network: MakeNetwork, shake: Callable[[nn.Module], nn.Module]
) -> None:
    model = make_network(50, placement={50: {"res2": [0], "res4": [4]}}, non_local=NonLocalBlock)
    shake(model)
    model.freeze(["stem", "res2"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model.eval()  # as validation does it
        model.train()
        optimiser.zero_grad()
        model(torch.randn(2, 3, 4, 32, 32)).logsumexp(1).sum().backward()
        optimiser.step()
    for name, tensor in model.state_dict().items():
        if name.startswith(("stem.", "res2.")):
            assert torch.equal(tensor, before[name]), name
        elif name.endswith(("running_mean", "running_var", "a.weight", "b.weight", "c.weight", "head.weight")):
            assert not torch.equal(tensor, before[name]), name
    assert model.training
    assert model.get_submodule("res3").training
    assert not any(module.training for module in model.get_submodule("res2").modules())


def test_freeze_of_an_unknown_part_is_refused(make_network: MakeNetwork) -> None:
    model = make_network(50)
    with pytest.raises(ConfigError, match=r"init\.freeze: no part 'res9'; there are stem, res2, res3, res4, res5"):
        model.freeze(["stem", "res9"])
    assert all(parameter.requires_grad for parameter in model.parameters())


# --- 2-D features -----------------------------------------------------------------------------------------------------

BLOCKS = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}
CHANNELS = {"res2": 256, "res3": 512, "res4": 1024, "res5": 2048}
I3D_KERNELS = {
    "conv1": 5,
    "res2": [3, 3, 3],
    "res3": [3, 1, 3, 1],
    "res4": [3, 1, 3, 1, 3, 1],
    "res5": [1, 3, 1],
}


@pytest.fixture(scope="module")
def resnet_2d(
    tmp_path_factory: pytest.TempPathFactory, shake: Callable[[nn.Module], nn.Module]
) -> tuple[nn.Module, str]:
    """torchvision's ResNet-50 with random weights and batch-norm statistics, and the file of its state dict."""
    torch.manual_seed(0)
    network = shake(ResNet(Bottleneck2d, list(BLOCKS.values()))).eval()
    path: Path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(network.state_dict(), path)
    return network, str(path)


def features_2d(network: nn.Module, images: Tensor) -> Tensor:
    """torchvision's feature map in front of the global pool. [B, 3, H, W] -> [B, 2048, h, w]."""
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        images = network.get_submodule(name)(images)
    return images


def inflated(weights: str, **options: object) -> VideoResNet:
    """The video network of ResNet-50 without temporal strides and with torchvision's padding in pool1."""
    stages = {
        name: Stage(channels=CHANNELS[name], blocks=blocks, spatial_stride=1 if name == "res2" else 2)
        for name, blocks in BLOCKS.items()
    }
    assert depth(stages) == 50
    model = VideoResNet(stages, num_classes=7, stem=Stem(pool_padding=(0, 1, 1)), **options)  # type: ignore[arg-type]
    imagenet(model, weights=weights)
    return model.eval()


def features_3d(model: VideoResNet, clip: Tensor) -> Tensor:
    """The feature map in front of the global pool. [B, 3, T, H, W] -> [B, 2048, T, h, w]."""
    seen = []
    hook = model.get_submodule("res5").register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(clip)
    hook.remove()
    return seen[0]


@torch.no_grad()
def test_inflated_c2d_on_one_frame_is_the_2d_network(resnet_2d: tuple[nn.Module, str]) -> None:
    network, path = resnet_2d
    image = torch.randn(2, 3, 64, 48)
    expected = features_2d(network, image)
    actual = features_3d(inflated(path), image[:, :, None])
    assert actual.shape == (2, 2048, 1, 2, 2)
    assert expected.std() > 0.1 * expected.mean() > 0  # not a map of zeros or of one number
    torch.testing.assert_close(actual[:, :, 0], expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


@torch.no_grad()
@pytest.mark.parametrize("inflation", ["3x1x1", "3x3x3"])
def test_inflated_i3d_on_a_static_video_has_the_2d_features(resnet_2d: tuple[nn.Module, str], inflation: str) -> None:
    """On interior frames: the zeros around the clip reach 2 + 3 + 2 + 3 + 1 = 11 frames into it."""
    network, path = resnet_2d
    image = torch.randn(1, 3, 32, 32)
    expected = features_2d(network, image)
    model = inflated(path, temporal_kernels=I3D_KERNELS, inflation=inflation, non_local=NonLocalBlock)
    actual = features_3d(model, image[:, :, None].expand(-1, -1, 25, -1, -1))
    for frame in (11, 12, 13):
        torch.testing.assert_close(actual[:, :, frame], expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
    for frame in (0, 24):  # the padding is seen here, so the temporal kernels are really there
        assert (actual[:, :, frame] - expected).abs().max() > 0.01 * expected.max()
