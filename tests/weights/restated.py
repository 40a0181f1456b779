"""The networks of other projects, restated plainly: their names, random tensors of them, and their forward passes.

Written from the rules of each project with functions of PyTorch alone, so that nothing here depends on nlnet. Axes: B
clips, C channels, T frames, H×W positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
FIELDS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Layout:
    """How a project names its tensors. ``conv`` and ``norm`` take (stage 2 … 5, block, a | b | c | branch1)."""

    stem_conv: str
    stem_norm: Callable[[str], str]
    conv: Callable[[int, int, str], str]
    norm: Callable[[int, int, str, str], str]
    head: Callable[[str], str]
    non_local: Callable[[int, int, str, str], str] = lambda stage, block, part, name: ""
    flat: bool = False  # 2-D kernels


@dataclass(frozen=True)
class Plan:
    """A small network: blocks of res2 … res5 (eleven in res4: indices of two digits), kernels over time, blocks."""

    conv1: int = 1
    kernels: Sequence[Sequence[int]] = ((1,), (1, 1), (1,) * 11, (1,))
    inflated: str = "a"
    non_local: Mapping[int, Sequence[int]] = field(default_factory=dict)
    form: str = "embedded_gaussian"
    norm: bool = True
    out_bias: bool = True
    classes: int = 7


I3D = ((3,), (3, 1), (3, 1) * 5 + (3,), (1,))
FIVE = {3: [1], 4: [0, 10]}
CHANNELS = {1: 4, 2: 8, 3: 16, 4: 16, 5: 24}


def random_state(layout: Layout, plan: Plan, *, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of the network in the project's names and shapes, statistics of batch norm too."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def draw(*shape: int, scale: float = 1.0, around: float = 0.0) -> Tensor:
        return around + scale * torch.randn(shape, generator=generator)

    def kernel(outputs: int, inputs: int, time: int, space: int) -> Tensor:
        shape = (outputs, inputs, space, space) if layout.flat else (outputs, inputs, time, space, space)
        return draw(*shape, scale=(inputs * time * space * space) ** -0.5)

    def norm(name: Callable[[str], str], channels: int) -> None:
        state[name("weight")] = draw(channels, scale=0.2, around=0.8)
        state[name("bias")] = draw(channels, scale=0.2)
        state[name("running_mean")] = draw(channels, scale=0.2)
        state[name("running_var")] = 0.5 + torch.rand(channels, generator=generator)

    state[layout.stem_conv] = kernel(CHANNELS[1], 3, plan.conv1, 7)
    norm(layout.stem_norm, CHANNELS[1])
    inputs = CHANNELS[1]
    for stage, kernels in zip((2, 3, 4, 5), plan.kernels, strict=True):
        outputs, inner = CHANNELS[stage], CHANNELS[stage] // 4
        for block, time in enumerate(kernels):
            t_a, t_b = (time, 1) if plan.inflated == "a" else (1, time)
            convolutions = {"a": (inner, inputs, t_a, 1), "b": (inner, inner, t_b, 3), "c": (outputs, inner, 1, 1)}
            if block == 0:
                convolutions["branch1"] = (outputs, inputs, 1, 1)
            for part, shape in convolutions.items():
                state[layout.conv(stage, block, part)] = kernel(*shape)
                norm(lambda name, at=(stage, block, part): layout.norm(*at, name), shape[0])
            inputs = outputs
            if block in plan.non_local.get(stage, ()):
                for name, shape in _projections(plan, outputs):
                    wide = (*shape, 1, 1) if name[0] == "w_f" else (*shape, 1, 1, 1) if name[1] == "weight" else shape
                    state[layout.non_local(stage, block, *name)] = draw(*wide, scale=shape[-1] ** -0.5)
                if plan.norm:
                    norm(lambda name, at=(stage, block, "bn"): layout.non_local(*at, name), outputs)
    state[layout.head("weight")] = draw(plan.classes, inputs)
    state[layout.head("bias")] = draw(plan.classes)
    return state


def _projections(plan: Plan, channels: int) -> Iterator[tuple[tuple[str, str], tuple[int, ...]]]:
    half = channels // 2
    for part in ("g",) if plan.form == "gaussian" else ("theta", "phi", "g"):
        yield (part, "weight"), (half, channels)
        yield (part, "bias"), (half,)
    yield ("out", "weight"), (channels, half)
    if plan.out_bias:
        yield ("out", "bias"), (channels,)
    if plan.form == "concatenation":
        yield ("w_f", "weight"), (1, 2 * half)


@dataclass(frozen=True)
class Rules:
    """What a project's code has beside the tensors: (time, height, width) of strides, pools and their padding."""

    stride: tuple[int, int, int]
    pool: tuple[int, int, int]
    pool_stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    pool2: bool = True
    pool_keys: str = "before"  # the projections, or after them
    scale: bool = True
    res3_frames: int | None = None  # of a group; None: all


AUTHORS_8 = Rules((1, 2, 2), (1, 3, 3), (1, 2, 2), (0, 0, 0))
AUTHORS_32 = Rules((2, 2, 2), (2, 3, 3), (2, 2, 2), (0, 0, 0))
SLOWFAST = Rules((1, 2, 2), (1, 3, 3), (1, 2, 2), (0, 1, 1))
MMACTION2 = Rules((2, 2, 2), (1, 3, 3), (2, 2, 2), (0, 1, 1), pool_keys="after", scale=False)


def forward(state: State, clip: Tensor, *, layout: Layout, plan: Plan, rules: Rules) -> Tensor:
    """The network's forward pass. [B, 3, T, H, W] -> logits [B, K]."""

    def weight(name: str) -> Tensor:
        return state[name][:, :, None] if layout.flat else state[name]

    def norm(x: Tensor, name: Callable[[str], str]) -> Tensor:
        scale, shift = state[name("weight")], state[name("bias")]
        if name("running_mean") in state:
            mean, variance = state[name("running_mean")], state[name("running_var")]
            shift = shift - scale * mean / (variance + 1e-5).sqrt()
            scale = scale / (variance + 1e-5).sqrt()
        return x * scale[:, None, None, None] + shift[:, None, None, None]

    conv1 = weight(layout.stem_conv)
    x = F.conv3d(clip, conv1, stride=rules.stride, padding=(conv1.shape[2] // 2, 3, 3))
    x = F.max_pool3d(norm(x, layout.stem_norm).relu(), rules.pool, rules.pool_stride, rules.padding)
    for stage, kernels in zip((2, 3, 4, 5), plan.kernels, strict=True):
        for block in range(len(kernels)):
            stride = 2 if stage > 2 and block == 0 else 1

            def part(x: Tensor, name: str, stride: int, at: tuple[int, int] = (stage, block)) -> Tensor:
                kernel = weight(layout.conv(*at, name))
                padding = [size // 2 for size in kernel.shape[2:]]
                x = F.conv3d(x, kernel, stride=(1, stride, stride), padding=padding)
                return norm(x, lambda key: layout.norm(*at, name, key))

            y = part(part(part(x, "a", 1).relu(), "b", stride).relu(), "c", 1)
            x = (y + (part(x, "branch1", stride) if block == 0 else x)).relu()
            if block in plan.non_local.get(stage, ()):

                def tensor(name: str, key: str, at: tuple[int, int] = (stage, block)) -> Tensor | None:
                    return state.get(layout.non_local(*at, name, key))

                run = rules.res3_frames if stage == 3 and rules.res3_frames else x.shape[2]
                z = [non_local(frames, tensor, plan=plan, rules=rules) for frames in x.split(run, dim=2)]
                y = torch.cat(z, dim=2)
                if plan.norm:
                    y = norm(y, lambda key, at=(stage, block): layout.non_local(*at, "bn", key))
                x = x + y
        if stage == 2 and rules.pool2:
            x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
    return x.mean(dim=(2, 3, 4)) @ state[layout.head("weight")].flatten(1).T + state[layout.head("bias")]


def non_local(x: Tensor, tensor: Callable[[str, str], Tensor | None], *, plan: Plan, rules: Rules) -> Tensor:
    """W_z y of a block, in front of its batch norm. [B, C, T, H, W] -> the same shape."""

    def project(x: Tensor, name: str) -> Tensor:
        return F.conv3d(x, tensor(name, "weight"), tensor(name, "bias"))

    def pool(x: Tensor) -> Tensor:
        return F.max_pool3d(x, (1, 2, 2), (1, 2, 2))

    gaussian = plan.form == "gaussian"
    keys = pool(x) if rules.pool_keys == "before" else x
    theta = x if gaussian else project(x, "theta")
    phi, g = keys if gaussian else project(keys, "phi"), project(keys, "g")
    if rules.pool_keys == "after":
        phi, g = pool(phi), pool(g)
    theta, phi, g = theta.flatten(2), phi.flatten(2), g.flatten(2)  # [B, C, N], [B, C, M], [B, C, M]
    affinity = torch.einsum("bcn,bcm->bnm", theta, phi)
    if plan.form == "concatenation":
        w_f = tensor("w_f", "weight")
        assert w_f is not None
        n, m = theta.shape[2], phi.shape[2]
        pairs = torch.cat([theta[..., None].expand(-1, -1, n, m), phi[:, :, None].expand(-1, -1, n, m)], dim=1)
        weights = F.conv2d(pairs, w_f).relu()[:, 0] / m
    elif plan.form == "dot_product":
        weights = affinity / affinity.shape[2]
    else:
        scale = theta.shape[1] ** -0.5 if rules.scale and not gaussian else 1.0
        weights = (affinity * scale).softmax(dim=2)
    y = torch.einsum("bnm,bcm->bcn", weights, g).reshape(len(x), g.shape[1], *x.shape[2:])
    return project(y, "out")


_C2 = {"weight": "w", "bias": "b"}
_C2_NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
_CAFFE2_PARTS = {"a": "branch2a", "b": "branch2b", "c": "branch2c", "branch1": "branch1"}
CAFFE2 = Layout(
    "conv1_w",
    lambda name: f"res_conv1_bn_{_C2_NORM[name]}",
    lambda stage, block, part: f"res{stage}_{block}_{_CAFFE2_PARTS[part]}_w",
    lambda stage, block, part, name: f"res{stage}_{block}_{_CAFFE2_PARTS[part]}_bn_{_C2_NORM[name]}",
    lambda name: f"pred_{_C2[name]}",
    lambda stage, block, part, name: (
        f"nonlocal_conv{stage}_{block}_{part}_{_C2_NORM[name] if part == 'bn' else _C2[name]}"
    ),
)

_SF_PARTS = {"a": "branch2.a", "b": "branch2.b", "c": "branch2.c", "branch1": "branch1"}
PYTH = Layout(
    "s1.pathway0_stem.conv.weight",
    lambda name: f"s1.pathway0_stem.bn.{name}",
    lambda stage, block, part: f"s{stage}.pathway0_res{block}.{_SF_PARTS[part]}.weight",
    lambda stage, block, part, name: f"s{stage}.pathway0_res{block}.{_SF_PARTS[part]}_bn.{name}",
    lambda name: f"head.projection.{name}",
    lambda stage, block, part, name: (
        f"s{stage}.pathway0_nonlocal{block}.{part if part == 'bn' else f'conv_{part}'}.{name}"
    ),
)

_MA_PARTS = {"a": "conv1", "b": "conv2", "c": "conv3", "branch1": "downsample"}
_MA_BLOCK = {
    "theta": "theta.conv",
    "phi": "phi.0.conv",
    "g": "g.0.conv",
    "out": "conv_out.conv",
    "bn": "conv_out.bn",
    "w_f": "concat_project.conv",
}


def mmaction2(*, flat: bool) -> Layout:
    return Layout(
        "backbone.conv1.conv.weight",
        lambda name: f"backbone.conv1.bn.{name}",
        lambda stage, block, part: f"backbone.layer{stage - 1}.{block}.{_MA_PARTS[part]}.conv.weight",
        lambda stage, block, part, name: f"backbone.layer{stage - 1}.{block}.{_MA_PARTS[part]}.bn.{name}",
        lambda name: f"cls_head.fc_cls.{name}",
        lambda stage, block, part, name: f"backbone.layer{stage - 1}.{block}.non_local_block.{_MA_BLOCK[part]}.{name}",
        flat=flat,
    )


_PTV_PARTS = {"a": "branch2.{}_a", "b": "branch2.{}_b", "c": "branch2.{}_c", "branch1": "branch1_{}"}
HUB = Layout(
    "blocks.0.conv.weight",
    lambda name: f"blocks.0.norm.{name}",
    lambda stage, block, part: (
        f"blocks.{stage if stage > 2 else 1}.res_blocks.{block}.{_PTV_PARTS[part].format('conv')}.weight"
    ),
    lambda stage, block, part, name: (
        f"blocks.{stage if stage > 2 else 1}.res_blocks.{block}.{_PTV_PARTS[part].format('norm')}.{name}"
    ),
    lambda name: f"blocks.6.proj.{name}",
)
SLOW_HUB = Layout(
    "blocks.0.conv.weight",
    lambda name: f"blocks.0.norm.{name}",
    lambda stage, block, part: f"blocks.{stage - 1}.res_blocks.{block}.{_PTV_PARTS[part].format('conv')}.weight",
    lambda stage, block, part, name: f"blocks.{stage - 1}.res_blocks.{block}.{_PTV_PARTS[part].format('norm')}.{name}",
    lambda name: f"blocks.5.proj.{name}",
)
