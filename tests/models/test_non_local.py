"""The non-local block: identity at the start, equation 6 by loops, what each choice of axes sees, any shape."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models import pairwise
from nlnet.models.non_local import Axes, NonLocalBlock, Output, Subsample
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise
from nlnet.models.resnet import VideoResNet

CHANNELS = 6
AXES: tuple[Axes, ...] = ("spacetime", "space", "time")
SUBSAMPLES: tuple[Subsample, ...] = ("first", "last", "none")
SHAPES = [(5,), (1,), (4, 6), (5, 7), (1, 1), (1, 3), (3, 4, 4), (2, 5, 3), (1, 1, 1), (4, 1, 5), (1, 3, 2)]
FORMS = [
    value
    for name, value in vars(pairwise).items()
    if isinstance(value, type) and issubclass(value, Pairwise) and value is not Pairwise and not name.startswith("_")
]
PLACEMENTS = Path(__file__).parents[2] / "configs" / "model" / "placement"

every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
every_axes = pytest.mark.parametrize("axes", AXES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
pooled_or_not = pytest.mark.parametrize("subsample", SUBSAMPLES)


def some(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def random_block(
    form: type[Pairwise], axes: Axes = "spacetime", subsample: Subsample = "first", channels: int = CHANNELS
) -> NonLocalBlock:
    """A block in float64 and evaluation mode with all weights, scales and statistics random."""
    block = NonLocalBlock(channels, pairwise=form, axes=axes, subsample=subsample).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in block.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1)
        for parameter in block.parameters():
            parameter.sub_(0.6)  # both signs; the running variance stays positive
    return block


@every_form
@every_axes
@pooled_or_not
def test_a_new_block_is_the_identity_bit_for_bit(form: type[Pairwise], axes: Axes, subsample: Subsample) -> None:
    block = NonLocalBlock(CHANNELS, pairwise=form, axes=axes, subsample=subsample)
    for training, shape in product((True, False), SHAPES):
        x = some(2, CHANNELS, *shape).float()
        assert torch.equal(block.train(training)(x), x)


@every_form
def test_a_new_block_can_leave_the_identity(form: type[Pairwise]) -> None:
    block = NonLocalBlock(CHANNELS, pairwise=form)
    (block(some(2, CHANNELS, 3, 4, 4).float()) ** 3).sum().backward()
    assert block.bn.weight.grad is not None
    assert block.bn.weight.grad.abs().min() > 0


def placements() -> list[object]:
    rows = []
    for path in sorted(PLACEMENTS.glob("*.yaml")):
        for depth, row in (yaml.safe_load(path.read_text()) or {50: {}}).items():
            rows.append(pytest.param(int(depth), row, id=f"{path.stem}-{depth}"))
    return rows


@pytest.mark.parametrize(("depth", "row"), placements())
def test_inserting_blocks_changes_no_bit_of_the_output(
    make_network: Callable[..., VideoResNet],
    shake: Callable[[nn.Module], nn.Module],
    depth: int,
    row: dict[str, list[int]],
) -> None:
    plain = shake(make_network(depth))
    for form in FORMS:
        blocks = make_network(
            depth, placement={depth: row}, non_local=lambda channels, form=form: NonLocalBlock(channels, pairwise=form)
        )
        missing, unexpected = blocks.load_state_dict(plain.state_dict(), strict=False)
        assert not unexpected
        expected = {f"{stage}.nl{index}" for stage, indices in row.items() for index in indices}
        assert {".".join(name.split(".")[:2]) for name in missing} == expected
        clip = some(2, 3, 4, 32, 32).float()
        logits = plain.eval()(clip)
        assert (logits[0] != logits[1]).all()  # the network computes something
        assert logits.isfinite().all()
        assert torch.equal(logits, blocks.eval()(clip))
    assert torch.equal(plain.train()(clip), blocks.train()(clip))


# The weights of one query over its keys, f(x_i, x_j) / C(x), from embedded vectors [D] and [M, D]; equations 2 to 5.
# A form without a line here is compared with its own ``weights``.
def gaussian(form: Pairwise, theta: Tensor, phi_MD: Tensor) -> Tensor:
    f = torch.stack([torch.dot(theta, phi).exp() for phi in phi_MD])
    return f / f.sum()


def embedded_gaussian(form: Pairwise, theta: Tensor, phi_MD: Tensor) -> Tensor:
    return gaussian(form, theta / len(theta) ** 0.5, phi_MD)


def dot_product(form: Pairwise, theta: Tensor, phi_MD: Tensor) -> Tensor:
    return torch.stack([torch.dot(theta, phi) for phi in phi_MD]) / len(phi_MD)


def concatenation(form: Pairwise, theta: Tensor, phi_MD: Tensor) -> Tensor:
    assert isinstance(form, Concatenation)
    return torch.stack([torch.dot(form.w_f, torch.cat([theta, phi])).relu() for phi in phi_MD]) / len(phi_MD)


EQUATIONS = {
    Gaussian: gaussian,
    EmbeddedGaussian: embedded_gaussian,
    DotProduct: dot_product,
    Concatenation: concatenation,
}


def conv(linear: nn.Module, x_BCTHW: Tensor) -> Tensor:
    """The same weights as a 1×1×1 convolution, as the paper writes it."""
    if isinstance(linear, nn.Identity):
        return x_BCTHW
    module = nn.Conv3d(linear.in_features, linear.out_features, 1).double()
    module.weight = nn.Parameter(linear.weight[:, :, None, None, None])
    module.bias = nn.Parameter(linear.bias)
    return module(x_BCTHW)


def naive_block(block: NonLocalBlock, x_BCTHW: Tensor, *, axes: Axes, subsample: Subsample) -> Tensor:
    """Figure 2 with convolutions, and equation 1 position by position."""
    pool = nn.MaxPool3d((1, min(2, x_BCTHW.shape[3]), min(2, x_BCTHW.shape[4])))
    subsample = "none" if axes == "time" else subsample
    keys = pool(x_BCTHW) if subsample == "first" else x_BCTHW
    form = block.pairwise
    theta, phi, g = conv(form.theta, x_BCTHW), conv(form.phi, keys), conv(block.g, keys)
    if subsample == "last":
        phi, g = pool(phi), pool(g)
    (batch, _, frames, height, width), (key_frames, key_height, key_width) = x_BCTHW.shape, phi.shape[2:]
    y = torch.zeros(batch, g.shape[1], frames, height, width, dtype=x_BCTHW.dtype)
    for b, t, h, w in product(range(batch), range(frames), range(height), range(width)):
        seen = [
            (kt, kh, kw)
            for kt, kh, kw in product(range(key_frames), range(key_height), range(key_width))
            if axes == "spacetime" or (axes == "space" and kt == t) or (axes == "time" and (kh, kw) == (h, w))
        ]
        phi_MD = torch.stack([phi[b, :, kt, kh, kw] for kt, kh, kw in seen])
        if type(form) in EQUATIONS:
            weights = EQUATIONS[type(form)](form, theta[b, :, t, h, w], phi_MD)
        else:
            weights = form.weights(theta[b, :, t, h, w][None, None], phi_MD[None])[0, 0]
        for weight, (kt, kh, kw) in zip(weights, seen, strict=True):
            y[b, :, t, h, w] += weight * g[b, :, kt, kh, kw]
    norm = nn.BatchNorm3d(x_BCTHW.shape[1]).double().train(block.bn.training)
    norm.load_state_dict(block.bn.state_dict())
    return x_BCTHW + norm(conv(block.out, y))


@every_form
@every_axes
@pooled_or_not
@torch.no_grad()
def test_block_is_equation_6(form: type[Pairwise], axes: Axes, subsample: Subsample) -> None:
    block = random_block(form, axes, subsample)
    for training, shape in [(False, (3, 4, 4)), (False, (2, 5, 3)), (False, (1, 1, 1)), (True, (2, 3, 4))]:
        x = some(2, CHANNELS, *shape)
        # The reference first: in training, the block's own statistics move with the forward pass.
        reference = naive_block(block.train(training), x, axes=axes, subsample=subsample)
        torch.testing.assert_close(block(x), reference, rtol=1e-9, atol=1e-9)


@every_form
@every_axes
@pooled_or_not
@every_shape
@torch.no_grad()
def test_inputs_of_one_and_two_dimensions_are_clips_with_axes_of_one(
    form: type[Pairwise], axes: Axes, subsample: Subsample, shape: tuple[int, ...]
) -> None:
    block = random_block(form, axes, subsample)
    x = some(2, CHANNELS, *shape)
    as_clip = {1: (*shape, 1, 1), 2: (1, *shape), 3: shape}[len(shape)]
    y = block(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y, block(x.view(2, CHANNELS, *as_clip)).view(x.shape))


@every_form
@pooled_or_not
@torch.no_grad()
def test_space_sees_its_own_frame_and_time_its_own_position(form: type[Pairwise], subsample: Subsample) -> None:
    x = some(2, CHANNELS, 4, 4, 4)
    changed = x.clone()
    changed[:, :, 2, 1, 3] += 3.0
    moved = {}
    for axes in AXES:
        block = random_block(form, axes, subsample)
        # What the block adds, so that the changed input itself does not count.
        difference = (block(changed) - changed) - (block(x) - x)
        moved[axes] = difference.abs().amax(dim=(0, 1)) > 1e-12
    space, time = torch.zeros(4, 4, 4, dtype=torch.bool), torch.zeros(4, 4, 4, dtype=torch.bool)
    space[2], time[:, 1, 3] = True, True
    assert not moved["space"][~space].any()
    assert not moved["time"][~time].any()
    # A maximum behind the projections passes a change on only where it wins, and concatenation's ReLU may be off there.
    least = 0.0 if subsample == "last" else 0.5
    assert moved["space"][space].float().mean() > least
    assert moved["time"][time].all()
    assert moved["spacetime"].float().mean() > least
    assert moved["spacetime"].flatten(1).any(dim=1).all()  # a change in one frame is seen in all


@every_form
@every_axes
def test_gradients_reach_all_parameters(form: type[Pairwise], axes: Axes) -> None:
    block = random_block(form, axes)
    x = some(2, CHANNELS, 3, 4, 4).requires_grad_()
    (block(x) ** 2).sum().backward()
    assert x.grad is not None
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A softmax does not see what is added to all logits of a query: the bias of φ is free in these forms.
        if not (form is EmbeddedGaussian and name == "pairwise.phi.bias"):
            assert parameter.grad.abs().max() > 1e-6, name


@every_form
@every_axes
@torch.no_grad()
def test_attention_has_the_weights_that_forward_uses(form: type[Pairwise], axes: Axes) -> None:
    block = random_block(form, axes)
    x = some(2, CHANNELS, 3, 4, 6)
    weights = block.attention(x)
    groups, queries, keys = {"spacetime": (2, 72, 18), "space": (6, 24, 6), "time": (48, 3, 3)}[axes]
    assert weights.shape == (groups, queries, keys)
    theta, phi, g = block._tokens(x)
    torch.testing.assert_close(weights @ g, block.pairwise(theta, phi, g))


@every_form
@pytest.mark.parametrize("subsample", SUBSAMPLES)
@torch.no_grad()
def test_groups_are_blocks_on_runs_of_frames(form: type[Pairwise], subsample: Subsample) -> None:
    x = some(2, CHANNELS, 6, 4, 5)
    for axes in AXES:
        whole = random_block(form, axes, subsample)
        for groups in (1, 2, 3, 6):
            grouped = (
                NonLocalBlock(CHANNELS, pairwise=form, axes=axes, subsample=subsample, groups=groups).double().eval()
            )
            grouped.load_state_dict(whole.state_dict())
            runs = [whole(run) for run in x.chunk(groups, dim=2)]
            torch.testing.assert_close(grouped(x), torch.cat(runs, dim=2))
    with pytest.raises(ValueError, match="6 frames at a non-local block cannot be cut into 4 groups"):
        NonLocalBlock(CHANNELS, pairwise=form, groups=4).double()(x)


@every_form
def test_without_a_norm_the_block_starts_at_a_zero_output_and_can_leave_it(form: type[Pairwise]) -> None:
    block = NonLocalBlock(CHANNELS, pairwise=form, output=Output(norm=False))
    assert not any(name.startswith("bn") for name in block.state_dict())
    x = some(2, CHANNELS, 3, 4, 4).float()
    assert torch.equal(block(x), x)
    (block(x) ** 3).sum().backward()
    assert block.out.weight.grad is not None
    assert block.out.weight.grad.abs().max() > 0
    with torch.no_grad():
        block.out.weight.normal_()
        block.out.bias.normal_()
        y = block.pairwise(*block._tokens(x)) @ block.out.weight.T + block.out.bias
    torch.testing.assert_close(block(x), x + y.mT.reshape(x.shape))


def test_the_output_may_have_no_bias_and_a_scale_from_the_start() -> None:
    block = NonLocalBlock(CHANNELS, output=Output(bias=False, scale_init=1.0))
    assert block.out.bias is None
    assert "out.bias" not in block.state_dict()
    assert (block.bn.weight == 1).all()
    x = some(2, CHANNELS, 3, 4, 4).float()
    assert not torch.equal(block(x), x)


def test_options_are_checked() -> None:
    for options in ({"axes": "spacetim"}, {"subsample": "after"}, {"groups": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            NonLocalBlock(CHANNELS, **options)  # type: ignore[arg-type]


def test_channels_of_the_embedding() -> None:
    assert NonLocalBlock(64).g.out_features == 32  # half (section 3.3)
    assert NonLocalBlock(64, embedding=5).g.out_features == 5
    assert NonLocalBlock(1).g.out_features == 1
    assert torch.equal(NonLocalBlock(1)(x := some(2, 1, 2, 3, 3).float()), x)


def test_initial_weights_are_the_authors() -> None:
    torch.manual_seed(0)
    block = NonLocalBlock(256, pairwise=Concatenation)
    for name, parameter in block.named_parameters():
        if name.endswith("bias") or name == "bn.weight":
            assert not parameter.any(), name
        else:
            assert 0.009 < parameter.std() < 0.011, name


def test_wrong_axes_and_wrong_rank() -> None:
    with pytest.raises(ConfigError, match=r"axes .* not 'spacetimes'"):
        NonLocalBlock(8, axes="spacetimes")  # type: ignore[arg-type]
    for shape in [(2, 8), (2, 8, 1, 1, 1, 1)]:
        with pytest.raises(ValueError, match=r"takes \[B, C, T\]"):
            NonLocalBlock(8)(torch.zeros(shape))


def test_odd_maps_drop_their_last_row_when_pooled() -> None:
    """5 -> 2, as in the authors' code."""
    assert random_block(EmbeddedGaussian).attention(some(1, CHANNELS, 1, 5, 5)).shape == (1, 25, 4)
