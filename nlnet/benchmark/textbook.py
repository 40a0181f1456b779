"""The baselines of every comparison, as textbooks and most public code have them, written plainly.

A network of Conv3d, BatchNorm3d and ReLU with its axes in the order [B, C, T, H, W], and the non-local block that
builds its matrix of N×M affinities. They have the weights of a network of ours and give the same logits.
Axes: B clips, C channels, T frames, H×W positions; N query tokens, M key tokens, D embedding channels.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian
from nlnet.models.resnet import Bottleneck, VideoResNet

# Affinities: θ [B, D, N], φ [B, D, M], the block they are of -> f(x_i, x_j) / C(x) as a matrix [B, N, M].
Affinity = Callable[[Tensor, Tensor, "TextbookBlock"], Tensor]


def softmax(theta_BDN: Tensor, phi_BDM: Tensor, block: "TextbookBlock") -> Tensor:
    """Gaussian and embedded Gaussian."""
    return torch.softmax(torch.matmul(theta_BDN.transpose(1, 2), phi_BDM) * block.scale, dim=-1)


def dot_product(theta_BDN: Tensor, phi_BDM: Tensor, block: "TextbookBlock") -> Tensor:
    """Dot product."""
    return torch.matmul(theta_BDN.transpose(1, 2), phi_BDM) / phi_BDM.shape[2]


def concatenation(theta_BDN: Tensor, phi_BDM: Tensor, block: "TextbookBlock") -> Tensor:
    """ReLU(w_f [θ_i, φ_j]) of a tensor [B, 2D, N, M] of all pairs, as the public implementations have it."""
    n, m = theta_BDN.shape[2], phi_BDM.shape[2]
    pairs = torch.cat([theta_BDN[..., None].repeat(1, 1, 1, m), phi_BDM[:, :, None].repeat(1, 1, n, 1)], dim=1)
    return F.relu(F.conv2d(pairs, block.w_f[None, :, None, None])).squeeze(1) / m


def broadcast_concatenation(theta_BDN: Tensor, phi_BDM: Tensor, block: "TextbookBlock") -> Tensor:
    """The same as ReLU(a_i + b_j), which needs no tensor of pairs of vectors, but the matrix."""
    w_theta, w_phi = block.w_f.chunk(2)
    a_BN, b_BM = torch.einsum("bdn,d->bn", theta_BDN, w_theta), torch.einsum("bdm,d->bm", phi_BDM, w_phi)
    return F.relu(a_BN[:, :, None] + b_BM[:, None, :]) / phi_BDM.shape[2]


AFFINITIES: dict[type[nn.Module], Affinity] = {
    Gaussian: softmax,
    EmbeddedGaussian: softmax,
    DotProduct: dot_product,
    Concatenation: concatenation,
}


class TextbookBlock(nn.Module):
    """The non-local block of figure 2 with 1×1×1 convolutions and the weights of one of ours.

    [B, C, T, H, W] -> the same shape.

    Args:
        ours: attends over space and time in one group; other blocks are refused.
        affinity: by default that of the pairwise function of ``ours``.

    Raises:
        ConfigError: the textbook has no such block.
    """

    def __init__(self, ours: NonLocalBlock, *, affinity: Affinity | None = None) -> None:
        super().__init__()
        if ours.axes != "spacetime" or ours.groups != 1 or type(ours.pairwise) not in AFFINITIES:
            raise ConfigError("the textbook's blocks attend over space and time in one group, in the paper's forms")
        self.affinity = affinity or AFFINITIES[type(ours.pairwise)]
        self.subsample = ours.subsample
        self.theta, self.phi = _convolution(ours.pairwise.theta), _convolution(ours.pairwise.phi)
        self.g, self.out = _convolution(ours.g), _convolution(ours.out)
        self.bn = copy.deepcopy(ours.bn) if isinstance(ours.bn, nn.Identity) else _batch_norm_3d(ours.bn)
        self.scale = float(getattr(ours.pairwise, "scale", 1.0))
        if isinstance(ours.pairwise, Concatenation):
            self.w_f = nn.Parameter(ours.pairwise.w_f.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        keys = self.pooled(x) if self.subsample == "first" else x
        phi, g = self.phi(keys), self.g(keys)
        if self.subsample == "last":
            phi, g = self.pooled(phi), self.pooled(g)
        affinity_BNM = self.affinity(self.theta(x).flatten(2), phi.flatten(2), self)
        y_BND = torch.matmul(affinity_BNM, g.flatten(2).transpose(1, 2))
        y_BDTHW = y_BND.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        z: Tensor = x + self.bn(self.out(y_BDTHW))
        return z

    def pooled(self, x: Tensor) -> Tensor:
        """Keys and g are max-pooled 1×2×2."""
        return F.max_pool3d(x, (1, 2, 2))


class TextbookBottleneck(nn.Module):
    """Residual block of Conv3d, BatchNorm3d and ReLU with the weights of one of ours. [B, C, T, H, W] -> the same."""

    def __init__(self, ours: Bottleneck) -> None:
        super().__init__()
        self.shortcut = nn.Sequential()
        if hasattr(ours, "branch1"):
            self.shortcut.extend([_convolution(ours.branch1), _batch_norm_3d(ours.branch1_bn)])
        self.a, self.a_bn = _convolution(ours.a), _batch_norm_3d(ours.a_bn)
        self.b, self.b_bn = _convolution(ours.b), _batch_norm_3d(ours.b_bn)
        self.c, self.c_bn = _convolution(ours.c), _batch_norm_3d(ours.c_bn)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        x = F.relu(self.a_bn(self.a(x)), inplace=True)
        x = F.relu(self.b_bn(self.b(x)), inplace=True)
        return F.relu(self.c_bn(self.c(x)) + shortcut, inplace=True)


class TextbookResNet(nn.Module):
    """C2D or I3D, with or without non-local blocks, with the weights of ``ours``. [B, 3, T, H, W] -> [B, classes].

    Raises:
        ConfigError: a non-local block that the textbook does not have, or another network.
    """

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        if not isinstance(ours, VideoResNet):
            raise ConfigError(f"the textbook's networks are C2D and I3D, not {type(ours).__name__}")
        self.stem = nn.Sequential(
            _convolution(ours.get_submodule("stem.conv")),
            _batch_norm_3d(ours.get_submodule("stem.bn")),
            nn.ReLU(inplace=True),
            copy.deepcopy(ours.get_submodule("stem.pool")),
        )
        self.stages = nn.Sequential(
            *(counterpart(part) for name in ours.stage_names for part in ours.get_submodule(name).children())
        )
        self.dropout = nn.Dropout(ours.dropout.p)
        self.head = copy.deepcopy(ours.head)

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.stages(self.stem(clip)).mean(dim=(2, 3, 4))))
        return logits


def counterpart(ours: nn.Module) -> nn.Module:
    """A part of a network of ours, or a layer, as the textbook has it, with the same weights."""
    if isinstance(ours, Bottleneck):
        return TextbookBottleneck(ours)
    if isinstance(ours, NonLocalBlock):
        return TextbookBlock(ours)
    if isinstance(ours, nn.Conv3d):
        return _convolution(ours)
    if isinstance(ours, nn.modules.batchnorm._BatchNorm):
        return _batch_norm_3d(ours)
    return copy.deepcopy(ours)


def _convolution(ours: nn.Module) -> nn.Module:
    """A Conv3d of ours, or a linear map of tokens, as PyTorch's Conv3d; an identity stays one."""
    bias = getattr(ours, "bias", None) is not None
    if isinstance(ours, nn.Conv3d):
        plain = nn.Conv3d(
            ours.in_channels,
            ours.out_channels,
            ours.kernel_size,  # type: ignore[arg-type]
            stride=ours.stride,  # type: ignore[arg-type]
            padding=ours.padding,  # type: ignore[arg-type]
            bias=bias,
        )
    elif isinstance(ours, nn.Linear):
        plain = nn.Conv3d(ours.in_features, ours.out_features, 1, bias=bias)
    else:
        return nn.Identity()
    with torch.no_grad():
        plain.weight.copy_(ours.weight.view_as(plain.weight))
        if plain.bias is not None and ours.bias is not None:
            plain.bias.copy_(ours.bias)
    return plain


def _batch_norm_3d(ours: nn.Module) -> nn.BatchNorm3d:
    """Any batch norm with statistics as PyTorch's BatchNorm3d."""
    assert isinstance(ours, nn.modules.batchnorm._BatchNorm)
    plain = nn.BatchNorm3d(ours.num_features, eps=ours.eps, momentum=ours.momentum)
    plain.load_state_dict(ours.state_dict())
    return plain
