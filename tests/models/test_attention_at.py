"""Single rows of a block's attention, in place: against the sums that the block's forward pass makes of them."""

import pytest
import torch

from nlnet.models.non_local import Axes, NonLocalBlock, Subsample
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise

CHANNELS, FRAMES, HEIGHT, WIDTH = 5, 4, 3, 5
CLIP = (1, CHANNELS, FRAMES, HEIGHT, WIDTH)


@pytest.mark.parametrize("form", [Gaussian, EmbeddedGaussian, DotProduct, Concatenation])
@pytest.mark.parametrize("axes", ["spacetime", "space", "time"])
@pytest.mark.parametrize(("subsample", "groups"), [("first", 1), ("last", 2), ("none", 2)])
@torch.no_grad()
def test_rows_are_the_weights_of_the_sum(form: type[Pairwise], axes: Axes, subsample: Subsample, groups: int) -> None:
    """With more channels of g than keys, only the right weights in the right places give the block's own y."""
    torch.manual_seed(0)
    keys = FRAMES * HEIGHT * WIDTH
    block = NonLocalBlock(
        CHANNELS, pairwise=form, axes=axes, subsample=subsample, groups=groups, embedding=keys, weight_std=0.5
    ).double()
    x = torch.randn(CLIP, dtype=torch.float64)
    theta, phi, g = block._tokens(x)
    g_GMV = torch.zeros(g.shape[0], g.shape[1], g.shape[0] * g.shape[1], dtype=torch.float64)
    for group in range(g.shape[0]):  # key m of group k is 1 in channel k·M + m, and 0 elsewhere
        for key in range(g.shape[1]):
            g_GMV[group, key, group * g.shape[1] + key] = 1
    y_RV = block._as_rows(block.pairwise(theta, phi, g_GMV), (1, FRAMES, HEIGHT, WIDTH, CHANNELS))
    positions = [(t, y, column) for t in range(FRAMES) for y in range(HEIGHT) for column in range(WIDTH)]
    rows = block.attention_at(x, positions)
    assert rows.shape == (len(positions), FRAMES, *((1, 2) if block.subsample != "none" else (HEIGHT, WIDTH)))
    # Which key each channel stands for: the sum's channels in the order of the clip.
    order = block._numbers(*rows.shape[1:]).flatten()
    expected = torch.zeros_like(rows).flatten(1)
    expected[:, order] = y_RV
    torch.testing.assert_close(rows.flatten(1), expected)


@torch.no_grad()
def test_the_key_with_the_same_content_gets_the_weight_where_it_is() -> None:
    block = NonLocalBlock(CHANNELS, pairwise=Gaussian)
    x = torch.zeros(1, CHANNELS, 4, 8, 6)
    x[0, :, 0, 1, 1] = 3.0
    x[0, :, 3, 6, 5] = 3.0  # in the cell of rows 6 to 7, columns 4 to 5, of the keys
    (row,) = block.attention_at(x, [(0, 1, 1)])
    assert row.shape == (4, 4, 3)
    assert set(map(tuple, (row > 0.4).nonzero().tolist())) == {(0, 0, 0), (3, 3, 2)}


def test_only_a_clip_and_only_its_positions() -> None:
    block = NonLocalBlock(CHANNELS)
    with pytest.raises(ValueError, match="a batch of 2"):
        block.attention_at(torch.zeros(2, CHANNELS, 2, 2, 2), [(0, 0, 0)])
    for position in [(2, 0, 0), (0, -1, 0), (0, 0, 2)]:
        with pytest.raises(IndexError, match="2×2×2"):
            block.attention_at(torch.zeros(1, CHANNELS, 2, 2, 2), [position])
