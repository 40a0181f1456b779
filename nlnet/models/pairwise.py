"""The pairwise functions of the paper's section 3.2, one class each (equations 2 to 5).

A pairwise function owns the embeddings θ and φ that it needs, and turns embedded positions into the weighted sum of
equation 1. Embedding is a step of its own, because networks differ in what happens between it and the sum (pooling).
Axes: B clips, N query positions, M key positions, C channels of the input, D embedding channels, V channels of g.

A new one is a class here with the same constructor and ``forward``, and a YAML in ``configs/model/non_local/``; every
test of identity at the start, gradients and the naive reference picks it up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlnet import ops


class Pairwise(nn.Module):
    """Σ_j f(x_i, x_j) g(x_j) / C(x). Queries θ [B, N, D], keys φ [B, M, D], g [B, M, V] -> [B, N, V].

    ``theta`` and ``phi`` embed positions, [..., C] -> [..., D]; without embeddings they are the identity and D is C.
    """

    theta: nn.Module
    phi: nn.Module

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()

    def forward(self, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
        raise TypeError("use one of the pairwise functions below")  # an abstract base, never built

    def attend(self, x_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        """Embedding and sum at once, for forms that need not embed. [B, N, C], [B, M, C], [B, M, V] -> [B, N, V]."""
        y_BNV: Tensor = self(self.theta(x_BNC), self.phi(keys_BMC), g_BMV)
        return y_BNV

    def weights(self, theta_BND: Tensor, phi_BMD: Tensor) -> Tensor:
        """The matrix f(x_i, x_j) / C(x) itself, for looking inside. [B, N, D], [B, M, D] -> [B, N, M]."""
        raise TypeError("use one of the pairwise functions below")


class Gaussian(Pairwise):
    """f = exp(x_iᵀ x_j), normalised by its sum (equation 2). No embeddings."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__(channels, embedding)
        self.theta = nn.Identity()
        self.phi = nn.Identity()

    def forward(self, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.softmax_attention(theta_BND, phi_BMD, g_BMV, scale=1.0)

    def weights(self, theta_BND: Tensor, phi_BMD: Tensor) -> Tensor:
        return (theta_BND @ phi_BMD.mT).softmax(dim=-1)


class _Embedded(Pairwise):
    """θ and φ: 1×1 convolutions to D channels, written as linear maps of tokens."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__(channels, embedding)
        self.theta = nn.Linear(channels, embedding)
        self.phi = nn.Linear(channels, embedding)


class EmbeddedGaussian(_Embedded):
    """f = exp(θ_iᵀ φ_j), normalised by its sum: a softmax over the keys (equation 3).

    The paper has no scale; the authors' code multiplies by D^-0.5, which is the default here.
    """

    def __init__(self, channels: int, embedding: int, *, scale: bool = True) -> None:
        super().__init__(channels, embedding)
        self.scale = embedding**-0.5 if scale else 1.0

    def forward(self, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.softmax_attention(theta_BND, phi_BMD, g_BMV, scale=self.scale)

    def weights(self, theta_BND: Tensor, phi_BMD: Tensor) -> Tensor:
        return (theta_BND @ phi_BMD.mT * self.scale).softmax(dim=-1)


class DotProduct(_Embedded):
    """f = θ_iᵀ φ_j, divided by the number of keys (equation 4)."""

    def forward(self, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.scaled_product(theta_BND, phi_BMD, g_BMV)

    def weights(self, theta_BND: Tensor, phi_BMD: Tensor) -> Tensor:
        return theta_BND @ phi_BMD.mT / phi_BMD.shape[1]


class Concatenation(_Embedded):
    """f = ReLU(w_fᵀ [θ_i, φ_j]), divided by the number of keys (equation 5). w_f has no bias."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__(channels, embedding)
        self.w_f = nn.Parameter(torch.empty(2 * embedding))

    def _halves(self, theta_BND: Tensor, phi_BMD: Tensor) -> tuple[Tensor, Tensor]:
        w_theta, w_phi = self.w_f.chunk(2)
        return theta_BND @ w_theta, phi_BMD @ w_phi

    def forward(self, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
        a_BN, b_BM = self._halves(theta_BND, phi_BMD)
        return ops.relu_concatenation(a_BN, b_BM, g_BMV)

    def attend(self, x_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        """w_θᵀ(W_θ x + bias) is (W_θᵀ w_θ)ᵀ x + w_θᵀ bias: one number of each position, without D embeddings of it."""
        w_theta, w_phi = self.w_f.chunk(2)
        return ops.relu_concatenation(_number(x_BNC, self.theta, w_theta), _number(keys_BMC, self.phi, w_phi), g_BMV)

    def weights(self, theta_BND: Tensor, phi_BMD: Tensor) -> Tensor:
        a_BN, b_BM = self._halves(theta_BND, phi_BMD)
        return (a_BN[..., None] + b_BM[:, None]).relu() / phi_BMD.shape[1]


def _number(x_BNC: Tensor, embed: nn.Module, w_D: Tensor) -> Tensor:
    """wᵀ(W x + bias). [B, N, C], D -> [B, N]."""
    assert isinstance(embed, nn.Linear)
    return F.linear(x_BNC, (w_D @ embed.weight)[None], (w_D @ embed.bias)[None]).squeeze(-1)
