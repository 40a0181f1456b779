"""Networks of other projects give the same logits after conversion, and come back to the bit.

On random tensors of the right names and shapes, against forward passes that are restated in tests/weights/restated.py.
"""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.video import resnet as video

from nlnet.config.compose import compose, plain
from nlnet.config.convert import _network, export_weights, import_weights
from nlnet.config.models import build_model, load_model
from nlnet.errors import CheckpointError, ConfigError
from nlnet.weights.architecture import read_architecture
from tests.config.converting import (
    C2D_PLAN,
    I3D_PLAN,
    NL,
    SLOW_PLAN,
    logits_agree,
    same_bits,
    saved,
    write_caffe2,
    write_torch,
)
from tests.weights import restated
from tests.weights.restated import I3D, Layout, Plan, Rules, forward, random_state

SLOW = Rules((1, 2, 2), (1, 3, 3), (1, 2, 2), (0, 1, 1), pool2=False)
CAFFE2_CASES = {
    "C2D for 8 frames": (C2D_PLAN, restated.AUTHORS_8, ["compat=authors"]),
    "I3D for 32 frames": (I3D_PLAN, restated.AUTHORS_32, ["compat=authors_32f"]),
    "I3D with blocks for 8 frames": (Plan(**NL), restated.AUTHORS_8, ["compat=authors"]),
    "I3D with blocks for 32 frames": (Plan(**NL), restated.AUTHORS_32, ["compat=authors_32f"]),
    "Slow of SlowFast's zoo": (SLOW_PLAN, SLOW, []),
    "of SlowFast's zoo": (Plan(**NL), restated.SLOWFAST, ["compat=slowfast"]),
}


@pytest.mark.parametrize(("plan", "rules", "overrides"), CAFFE2_CASES.values(), ids=CAFFE2_CASES)
@pytest.mark.parametrize(("protocol", "nested"), [(2, True), (0, False)], ids=["nested", "flat"])
def test_caffe2(
    plan: Plan, rules: Rules, overrides: list[str], protocol: int, nested: bool, classes: Path, tmp_path: Path
) -> None:
    state = random_state(restated.CAFFE2, plan)
    path = write_caffe2(state, tmp_path / "model.pkl", protocol=protocol, nested=nested)
    imported = import_weights(path, classes=classes, overrides=overrides)
    logits_agree(imported, state, restated.CAFFE2, plan, rules)
    assert any("CC-BY-NC" in line for line in imported.lines)
    assert any(line.startswith("left out, of the solver: conv1_w_momentum") for line in imported.lines)


@pytest.mark.parametrize("preset", ["authors", "authors_32f"])
def test_affine_caffe2_attends_within_groups_of_four_frames(preset: str, classes: Path, tmp_path: Path) -> None:
    plan = Plan(**NL, norm=False)
    statistics = ("_bn_rm", "_bn_riv")
    state = {n: t for n, t in random_state(restated.CAFFE2, plan).items() if not n.endswith(statistics)}
    path = write_caffe2(state, tmp_path / "long.pkl")
    with pytest.raises(ConfigError, match=r"data/clip=32x4 or data/clip=128x1"):
        import_weights(path, classes=classes, overrides=[f"compat={preset}"])
    imported = import_weights(path, classes=classes, overrides=[f"compat={preset}", "data/clip=32x4"])
    strides = restated.AUTHORS_8 if preset == "authors" else restated.AUTHORS_32
    rules = Rules(strides.stride, strides.pool, strides.pool_stride, strides.padding, res3_frames=4)
    frames = 32 if preset == "authors" else 128
    clip = torch.randn(1, 3, frames, 33, 33, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = forward(state, clip, layout=restated.CAFFE2, plan=plan, rules=rules)
        actual = imported.model(clip)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert any("affine" in line for line in imported.lines)


TORCH_CASES = {
    "SlowFast C2D": ("model_state", restated.PYTH, C2D_PLAN, restated.SLOWFAST, []),
    "SlowFast I3D": ("model_state", restated.PYTH, I3D_PLAN, restated.SLOWFAST, []),
    "SlowFast Slow": ("model_state", restated.PYTH, SLOW_PLAN, SLOW, []),
    "SlowFast embedded Gaussian": (
        "model_state",
        restated.PYTH,
        Plan(**NL),
        restated.SLOWFAST,
        ["model/non_local=embedded_gaussian"],
    ),
    "SlowFast dot product": (
        "model_state",
        restated.PYTH,
        Plan(**NL, form="dot_product"),
        restated.SLOWFAST,
        ["model/non_local=dot_product"],
    ),
    "MMAction2 C2D": ("state_dict", restated.mmaction2(flat=True), C2D_PLAN, restated.AUTHORS_8, []),
    "MMAction2 I3D": ("state_dict", restated.mmaction2(flat=False), I3D_PLAN, restated.MMACTION2, []),
    "MMAction2 I3D 3x3x3": (
        "state_dict",
        restated.mmaction2(flat=False),
        Plan(conv1=5, kernels=I3D, inflated="b"),
        restated.MMACTION2,
        [],
    ),
    "MMAction2 I3D heavy": (
        "state_dict",
        restated.mmaction2(flat=False),
        Plan(conv1=5, kernels=((3,), (3, 3), (3,) * 11, (3,))),
        restated.SLOWFAST,
        [],
    ),
    "MMAction2 SlowOnly": (
        "state_dict",
        restated.mmaction2(flat=False),
        SLOW_PLAN,
        SLOW,
        [],
    ),
    "MMAction2 gaussian": (
        "state_dict",
        restated.mmaction2(flat=False),
        Plan(**NL, form="gaussian", out_bias=False),
        restated.MMACTION2,
        [],
    ),
    "MMAction2 embedded Gaussian": (
        "state_dict",
        restated.mmaction2(flat=False),
        Plan(**NL, out_bias=False),
        restated.MMACTION2,
        ["model/non_local=embedded_gaussian", "compat.softmax_scale=false"],
    ),
    "MMAction2 dot product": (
        "state_dict",
        restated.mmaction2(flat=False),
        Plan(**NL, form="dot_product", out_bias=False),
        restated.MMACTION2,
        ["model/non_local=dot_product"],
    ),
    "MMAction2 concatenation": (
        "state_dict",
        restated.mmaction2(flat=False),
        Plan(**NL, form="concatenation", out_bias=False),
        restated.MMACTION2,
        [],
    ),
    "pytorchvideo C2D": ("model_state", restated.HUB, C2D_PLAN, restated.SLOWFAST, []),
    "pytorchvideo I3D": ("model_state", restated.HUB, I3D_PLAN, restated.SLOWFAST, []),
    "pytorchvideo Slow": (
        "model_state",
        restated.SLOW_HUB,
        SLOW_PLAN,
        SLOW,
        [],
    ),
}


@pytest.mark.parametrize(("container", "layout", "plan", "rules", "overrides"), TORCH_CASES.values(), ids=TORCH_CASES)
def test_torch_files_there_and_back(
    container: str,
    layout: Layout,
    plan: Plan,
    rules: Rules,
    overrides: list[str],
    classes: Path,
    tmp_path: Path,
) -> None:
    state = random_state(layout, plan)
    path = write_torch(container)(state, tmp_path / "model.pyth")
    imported = import_weights(path, classes=classes, overrides=overrides)
    logits_agree(imported, state, layout, plan, rules)
    to_format = {restated.PYTH: "slowfast", restated.HUB: None, restated.SLOW_HUB: None}.get(layout, "mmaction2")
    if to_format is not None:  # and back, to the bit
        exported = export_weights(saved(imported, tmp_path / "ours.pt"), to_format=to_format)
        same_bits(exported.checkpoint[container], state)
        assert not any("computes the same only where" in note for note in exported.notes)


def test_the_checkpoint_is_one_of_ours(classes: Path, tmp_path: Path) -> None:
    state = random_state(restated.PYTH, Plan(**NL))
    path = write_torch("model_state")(state, tmp_path / "I3D NLN=8x8.pyth")
    imported = import_weights(path, classes=classes, overrides=["model/non_local=dot_product"])
    trained = load_model(saved(imported, tmp_path / "ours.pt"))
    same_bits(trained.model.state_dict(), imported.model.state_dict())
    assert trained.classes == tuple(f"class {number}" for number in range(7))
    assert trained.config.compat.name == "slowfast"
    assert trained.config.name == "I3D NLN=8x8"
    assert trained.config.model.non_local.pairwise._target_.endswith("DotProduct")
    assert trained.config.model.placement == {"47": {"res3": [1], "res4": [0, 10]}}
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.equal(trained.model(clip), imported.model(clip))


def test_the_published_depths_are_those_of_our_configs() -> None:
    """The network that is composed for I3D ResNet-50 with five blocks is the one of our own experiment."""
    for model, placement in [("i3d_r50", "five"), ("c2d_r101", "ten")]:
        expected = compose("train", [f"model={model}", f"model/placement={placement}", "data.root=x"])
        expected.model.init = None
        with torch.device("meta"):
            own, _ = build_model(expected.model, num_classes=400)
        architecture = read_architecture(own.state_dict(), source="ours")
        assert architecture.depth == int(model[-2:].replace("01", "101"))
        if placement == "ten":  # the paper leaves R101 open: gluon-cv's choice
            assert architecture.placement == {"res3": (0, 1, 2, 3), "res4": (2, 6, 10, 14, 18, 22)}
        composed = compose("train", ["model=c2d_r50", "data.root=x", *_network(architecture)])
        composed.model.init = None
        with torch.device("meta"):
            again, _ = build_model(composed.model, num_classes=400)
        assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in own.state_dict().items()}
        assert plain(composed.model.stages) == plain(expected.model.stages)


def test_torchvision_resnet_becomes_c2d(classes: Path, tmp_path: Path) -> None:
    """A still image, as a clip of two equal frames, has the logits of torchvision's own network."""
    torch.manual_seed(0)
    theirs = ResNet(Bottleneck, [1, 2, 1, 1], num_classes=7).eval()
    randomise_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    imported = import_weights(tmp_path / "resnet.pth", classes=classes)
    image = torch.randn(2, 3, 65, 70)
    with torch.no_grad():
        expected, actual = theirs(image), imported.model(image[:, :, None].expand(-1, -1, 2, -1, -1))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert list(imported.config.data.normalize.mean) == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("first", [video.Conv3DNoTemporal, video.Conv3DSimple])
def test_torchvision_video_networks_of_bottlenecks(first: type, classes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    makers = [first, *[video.Conv3DNoTemporal] * 3]
    theirs = video.VideoResNet(video.Bottleneck, makers, [2, 1, 1, 1], video.BasicStem, num_classes=7).eval()
    randomise_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "video.pth")
    imported = import_weights(tmp_path / "video.pth", classes=classes)
    clip = torch.randn(1, 3, 4, 33, 38)
    with torch.no_grad():
        expected, actual = theirs(clip), imported.model(clip)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def randomise_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand_like(tensor) * 0.5 + 0.5


QUESTIONS = {
    "whose Caffe2 network": (
        restated.CAFFE2,
        Plan(),
        [],
        r"compat=authors or compat=authors_32f or compat=slowfast; --classes FILE with 7 names",
    ),
    "which form in SlowFast": (
        restated.PYTH,
        Plan(**NL),
        [],
        r"give model/non_local=embedded_gaussian or model/non_local=dot_product; --classes",
    ),
    "form and scale in MMAction2": (
        restated.mmaction2(flat=False),
        Plan(**NL),
        [],
        r"give model/non_local=embedded_gaussian or .*; compat\.softmax_scale=false or compat\.softmax_scale=true",
    ),
    "no scale of a dot product": (
        restated.mmaction2(flat=False),
        Plan(**NL),
        ["model/non_local=dot_product"],
        r"do not say; give --classes",
    ),
    "only the names": (restated.HUB, Plan(), [], r"the tensors of pytorchvideo do not say; give --classes"),
}


@pytest.mark.parametrize(("layout", "plan", "overrides", "message"), QUESTIONS.values(), ids=QUESTIONS)
def test_what_the_tensors_do_not_say_is_asked(
    layout: Layout, plan: Plan, overrides: list[str], message: str, tmp_path: Path
) -> None:
    state = random_state(layout, plan)
    write = write_caffe2 if layout is restated.CAFFE2 else write_torch("state_dict")
    path = write(state, tmp_path / "model")
    with pytest.raises(ConfigError, match=message):
        import_weights(path, classes=None, overrides=overrides)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\n", "2 names, but the classifier has 7 classes"),
        ("a\nb\nc\nd\ne\nf\na\n", "'a' is there twice"),
        (None, "cannot be read"),
    ],
)
def test_wrong_class_names_are_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = write_torch("model_state")(random_state(restated.HUB, Plan()), tmp_path / "model.pyth")
    classes = tmp_path / "names.txt"
    if content is not None:
        classes.write_text(content)
    with pytest.raises(ConfigError, match=message):
        import_weights(path, classes=classes)


def test_an_override_of_what_the_tensors_say_is_refused(classes: Path, tmp_path: Path) -> None:
    path = write_torch("model_state")(random_state(restated.HUB, Plan()), tmp_path / "model.pyth")
    with pytest.raises(ConfigError, match="model/placement=five: this is read off the tensors"):
        import_weights(path, classes=classes, overrides=["model/placement=five"])
    with pytest.raises(CheckpointError, match=r"does not fit .*newly initialised: res3\.nl0"):
        import_weights(path, classes=classes, overrides=["++model.placement.47.res3=[0]"])
    with pytest.raises(ConfigError, match=r"written key=value"):
        import_weights(path, classes=classes, overrides=["compat"])


def test_other_widths_inside_the_blocks_are_refused(classes: Path, tmp_path: Path) -> None:
    state = random_state(restated.HUB, Plan())
    name = restated.HUB.conv(3, 1, "b")
    state[name] = torch.cat([state[name]] * 2)
    path = write_torch("model_state")(state, tmp_path / "model.pyth")
    with pytest.raises(CheckpointError, match=r"does not fit a network of bottlenecks: .*left out: res3\.1\.b"):
        import_weights(path, classes=classes)


def test_a_network_without_a_classifier_starts_with_a_new_one(classes: Path, tmp_path: Path) -> None:
    state = {n: t for n, t in random_state(restated.HUB, Plan()).items() if ".proj." not in n}
    path = write_torch("model_state")(state, tmp_path / "model.pyth")
    imported = import_weights(path, classes=classes)
    assert "newly initialised: head" in imported.lines
    assert imported.model.get_submodule("head").weight.shape == (7, 24)
