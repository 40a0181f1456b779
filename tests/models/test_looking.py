"""What a network looks at: places in pixels, strongest queries, how far, and class-activation maps."""

import math

import pytest
import torch

from nlnet.errors import ConfigError
from nlnet.models.looking import Attention, Grid, Look, class_activation
from nlnet.models.non_local import Axes, NonLocalBlock
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise
from nlnet.models.resnet import Stage, Stem, VideoResNet


def network(form: type[Pairwise] = EmbeddedGaussian, axes: Axes = "spacetime", groups: int = 1) -> VideoResNet:
    torch.manual_seed(0)
    model = VideoResNet(
        {"res2": Stage(16, 1, 1), "res3": Stage(32, 2, 2)},
        num_classes=3,
        stem=Stem(8, 3, pool_kernel=(1, 1, 1), pool_stride=(1, 1, 1)),
        non_local=lambda channels: NonLocalBlock(channels, pairwise=form, axes=axes, groups=groups, weight_std=0.1),
        placement={11: {"res2": [0], "res3": [1]}},
    )
    for name, tensor in model.state_dict().items():
        if name.endswith("bn.weight"):
            tensor.uniform_(0.5, 1.5)
    return model.train()


CLIP = torch.randn(1, 3, 4, 24, 20, generator=torch.Generator().manual_seed(1))


def test_places_and_pixels() -> None:
    grid = Grid((4, 6, 5), (8, 24, 20))
    assert grid.place(0, 0, 0) == (0, 0, 0)
    assert grid.place(7, 23, 19.9) == (3, 5, 4)
    assert grid.centre(0, 4) == (2, 18)
    assert [grid.frame(t) for t in range(4)] == [1, 3, 5, 7]
    # Of five columns, two pairs are keys: they cover the first 16 of 20 pixels.
    assert Grid((4, 6, 5), (8, 24, 20), (2, 2)).centre(2, 1) == (20, 12)
    for wanted, what in [((8, 0, 0), "frame=8"), ((0, -1, 0), "y=-1"), ((0, 0, 20), "x=20")]:
        with pytest.raises(ConfigError, match=f"{what} lies outside the clip"):
            grid.place(*wanted)


def test_a_look_leaves_the_network_as_it_was() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    look = Look(model, CLIP)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    torch.testing.assert_close(look.logits, model.eval()(CLIP)[0])


def test_the_strongest_query_is_where_the_block_changes_most() -> None:
    model = network().eval()
    look = Look(model, CLIP)
    with torch.no_grad():
        x = model.res2[0](model.stem(CLIP))
        change = (model.res2.nl0(x) - x)[0].pow(2).sum(0)
    t, row, column = look.strongest_query("res2.nl0")
    assert change[t, row, column] == change.max()


@pytest.mark.parametrize("form", [Gaussian, EmbeddedGaussian, DotProduct, Concatenation])
def test_attention_is_the_row_of_the_whole_matrix(form: type[Pairwise]) -> None:
    model = network(form).eval()
    look = Look(model, CLIP)
    assert list(look.blocks) == ["res2.nl0", "res3.nl1"]
    (attention,) = look.attention("res3.nl1", [(2, 3, 1)])
    with torch.no_grad():
        x = model.res3[1](model.res3[0](model.res2(model.stem(CLIP))))
        matrix = model.res3.nl1.attention(x)[0]
    t, height, width = x.shape[2:]
    torch.testing.assert_close(attention.weights.flatten(), matrix[(2 * height + 3) * width + 1])
    assert attention.grid == Grid((t, height, width), (4, 24, 20), (2, 2))
    assert attention.pairwise == form.__name__
    best = attention.strongest(5)
    highest = attention.weights.flatten().topk(5).values.tolist()
    assert [weight for _, weight in best] == [weight for weight in highest if weight > 0]
    assert best or form not in (Gaussian, EmbeddedGaussian)  # others may have no weight above 0
    assert all(attention.weights[place].item() == weight for place, weight in best)


def test_an_unknown_block_is_named() -> None:
    with pytest.raises(ConfigError, match=r"res4\.nl5: the network has no such non-local block; it has res2\.nl0"):
        Look(network(), CLIP).attention("res4.nl5", [(0, 0, 0)])


def slow_statistics(look: Look, name: str, attended: object) -> tuple[list[float], int]:
    """Means over all queries by loops."""
    grid = look.grid(name)
    T, H, W = grid.map
    sums, count = [0.0] * 8, 0
    for t in range(T):
        for row in range(H):
            for column in range(W):
                (attention,) = look.attention(name, [(t, row, column)])
                keys = [
                    (k, y, x) for k in range(T) for y in range(attention.weights.shape[1])
                    for x in range(attention.weights.shape[2]) if attended((t, row, column), (k, y, x))
                ]  # fmt: skip
                weights = [abs(float(attention.weights[key])) for key in keys]
                count += 1
                for offset, values in ((0, weights), (1, [1.0] * len(keys))):
                    total = sum(values)
                    for (k, y, x), value in zip(keys, values, strict=True):
                        share = value / total
                        y_query, x_query = grid.centre(row, column)
                        y_key, x_key = attention.grid.centre(y, x)
                        sums[offset] -= share * math.log(share) if share else 0
                        sums[2 + offset] += share * abs(k - t) * grid.clip[0] / T
                        sums[4 + offset] += share * math.hypot(y_key - y_query, x_key - x_query)
                        sums[6 + offset] += share * (k == t)
    return [value / count for value in sums], count


@pytest.mark.parametrize(
    ("axes", "groups", "attended"),
    [
        ("spacetime", 1, lambda query, key: True),
        ("spacetime", 2, lambda query, key: query[0] // 2 == key[0] // 2),
        ("space", 1, lambda query, key: query[0] == key[0]),
        ("time", 1, lambda query, key: query[1:] == key[1:]),
    ],
)
def test_how_far_a_block_looks(axes: Axes, groups: int, attended: object) -> None:
    look = Look(network(axes=axes, groups=groups), CLIP[..., :16, :12])
    found = look.statistics("res3.nl1", queries=10_000)
    expected, count = slow_statistics(look, "res3.nl1", attended)
    assert found.queries == count
    values = [
        found.entropy, found.uniform_entropy, found.frames, found.uniform_frames,
        found.pixels, found.uniform_pixels, found.own_frame, found.uniform_own_frame,
    ]  # fmt: skip
    assert values == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert look.statistics("res3.nl1", queries=7).queries == 7


def test_weights_that_are_all_zero_have_no_preference() -> None:
    nothing = Attention("a", "Concatenation", (0, 0, 0), torch.zeros(1, 2, 2), Grid((1, 2, 2), (1, 4, 4)))
    assert nothing.strongest(20) == []


def test_the_mean_of_a_class_activation_map_is_its_logit() -> None:
    model = network().eval()
    maps = class_activation(model, CLIP)
    assert maps.shape == (3, 4, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(maps.mean((1, 2, 3)) + model.head.bias, model(CLIP)[0])
    with pytest.raises(ConfigError, match="Identity has no linear classifier"):
        class_activation(torch.nn.Identity(), CLIP)
