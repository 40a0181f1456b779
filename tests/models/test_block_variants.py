"""The blocks of the paper and of the public implementations, each written out plainly, against our options."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nlnet.models.non_local import NonLocalBlock, Output, Subsample
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise

CHANNELS = 8


@dataclass(frozen=True)
class Variant:
    """What an implementation does, in its own terms."""

    forms: tuple[str, ...]
    pool: Subsample  # in front of the convolutions, behind phi and g, or not at all
    scale: bool  # softmax of theta.phi times (channels of theta)^-0.5
    output_bias: bool = True
    gamma: float = 0.0  # initial scale of the batch norm behind the output convolution
    norm: bool = True


SOFTMAX_AND_DOT = ("embedded_gaussian", "dot_product")
ALL = ("gaussian", *SOFTMAX_AND_DOT, "concatenation")
VARIANTS = {
    "paper": Variant(ALL, "last", scale=False),
    "authors": Variant(SOFTMAX_AND_DOT, "first", scale=True),
    "authors, long clips": Variant(SOFTMAX_AND_DOT, "first", scale=True, norm=False),
    "SlowFast": Variant(SOFTMAX_AND_DOT, "first", scale=True, gamma=1.0),
    "SlowFast, ZERO_INIT_FINAL_BN": Variant(SOFTMAX_AND_DOT, "first", scale=True),
    "mmcv, use_scale": Variant(ALL, "last", scale=True, output_bias=False),
    "mmcv": Variant(ALL, "last", scale=False, output_bias=False),
    "Non-local_pytorch": Variant(ALL, "last", scale=False),
    "pytorchvideo": Variant(SOFTMAX_AND_DOT, "first", scale=True, gamma=1.0),
    "gluon-cv": Variant(("embedded_gaussian",), "last", scale=False),
    "gluon-cv, nosubsample_norm": Variant(("embedded_gaussian",), "none", scale=True),
    "temporal-shift-module": Variant(("embedded_gaussian",), "last", scale=False),
}
FORMS = {"gaussian": Gaussian, "dot_product": DotProduct, "concatenation": Concatenation}


def block_of(variant: Variant, form: str) -> NonLocalBlock:
    """The variant by our options."""
    pairwise: type[Pairwise] | partial[Pairwise] = FORMS.get(form, partial(EmbeddedGaussian, scale=variant.scale))
    output = Output(bias=variant.output_bias, norm=variant.norm, scale_init=variant.gamma)
    return NonLocalBlock(CHANNELS, pairwise=pairwise, subsample=variant.pool, output=output)


def plain(variant: Variant, form: str, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """[B, C, T, H, W] -> the same shape: the variant step by step, with 1×1×1 convolutions and the whole matrix."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv3d(x, weights[f"{name}.weight"][:, :, None, None, None], weights.get(f"{name}.bias"))

    def pool(x: Tensor) -> Tensor:
        return F.max_pool3d(x, (1, 2, 2), (1, 2, 2))

    keys = pool(x) if variant.pool == "first" else x
    embedded = form != "gaussian"
    theta = conv("pairwise.theta", x) if embedded else x
    phi = conv("pairwise.phi", keys) if embedded else keys
    g = conv("g", keys)
    if variant.pool == "last":
        phi, g = pool(phi), pool(g)
    theta, phi, g = theta.flatten(2), phi.flatten(2), g.flatten(2)  # [B, D, N], [B, D, M], [B, D, M]
    affinity = torch.einsum("bdn,bdm->bnm", theta, phi)
    if form == "concatenation":
        n, m = theta.shape[2], phi.shape[2]
        pairs = torch.cat([theta[:, :, :, None].expand(-1, -1, n, m), phi[:, :, None].expand(-1, -1, n, m)], dim=1)
        affinity = torch.einsum("d,bdnm->bnm", weights["pairwise.w_f"], pairs).relu()
    if form in ("concatenation", "dot_product"):
        affinity = affinity / phi.shape[2]
    else:
        scale = theta.shape[1] ** -0.5 if variant.scale and embedded else 1.0
        affinity = (affinity * scale).softmax(dim=2)
    y = torch.einsum("bnm,bdm->bdn", affinity, g).view(x.shape[0], -1, *x.shape[2:])
    z = conv("out", y)
    if variant.norm:
        names = ("running_mean", "running_var", "weight", "bias")
        z = F.batch_norm(z, *(weights[f"bn.{name}"] for name in names), training=False, eps=1e-5)
    return x + z


CASES = [
    pytest.param(variant, form, id=f"{name}-{form}") for name, variant in VARIANTS.items() for form in variant.forms
]


@pytest.mark.parametrize(("variant", "form"), CASES)
def test_variants(variant: Variant, form: str) -> None:
    torch.manual_seed(0)
    block = block_of(variant, form).eval()
    assert ("out.bias" in block.state_dict()) == variant.output_bias
    assert any(name.startswith("bn.") for name in block.state_dict()) == variant.norm
    if variant.norm:
        assert (block.bn.weight == variant.gamma).all()
    x = torch.randn(2, CHANNELS, 3, 6, 5)
    starts_as_identity = variant.gamma == 0
    assert torch.equal(block(x), x) == starts_as_identity

    with torch.no_grad():
        for name, tensor in block.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.1 if name.endswith("var") else torch.randn(tensor.shape) / 2)
    expected = plain(variant, form, block.state_dict(), x)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, x, atol=0.1)  # or the comparison says nothing


def test_the_variants_are_different_functions() -> None:
    """With the same weights, pooling in front and behind, and scaling or not, are different networks."""
    torch.manual_seed(0)
    weights = {name: torch.randn(tensor.shape) / 2 for name, tensor in NonLocalBlock(CHANNELS).state_dict().items()}
    weights["bn.running_var"].abs_()
    x = torch.randn(1, CHANNELS, 2, 4, 4)
    results = [
        plain(variant, "embedded_gaussian", weights, x)
        for variant in (VARIANTS["paper"], VARIANTS["authors"], VARIANTS["mmcv, use_scale"])
    ]
    for index, result in enumerate(results):
        for other in results[:index]:
            assert not torch.allclose(result, other, atol=0.01)
