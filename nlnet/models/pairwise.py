"""The pairwise functions of the paper's section 3.2, one class each (equations 2 to 5).

A pairwise function owns the embeddings θ and φ that it needs, and turns positions into the weighted sum of equation 1.
Axes: B clips, N query positions, M key positions, C channels of the input, D embedding channels, V channels of g.

A new one is a class here with the same constructor and ``forward``, and a YAML in ``configs/model/non_local/``; every
test of identity at the start, gradients and the naive reference picks it up.
"""

import torch
from torch import Tensor, nn

from nlnet import ops


class Pairwise(nn.Module):
    """Σ_j f(x_i, x_j) g(x_j) / C(x). Queries [B, N, C], keys [B, M, C], g [B, M, V] -> [B, N, V]."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()

    def forward(self, queries_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        raise TypeError("use one of the pairwise functions below")  # an abstract base, never built

    def weights(self, queries_BNC: Tensor, keys_BMC: Tensor) -> Tensor:
        """The matrix f(x_i, x_j) / C(x) itself, for looking inside. [B, N, C], [B, M, C] -> [B, N, M]."""
        raise TypeError("use one of the pairwise functions below")


class Gaussian(Pairwise):
    """f = exp(x_iᵀ x_j), normalised by its sum (equation 2). No embeddings."""

    def forward(self, queries_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.softmax_attention(queries_BNC, keys_BMC, g_BMV, scale=1.0)

    def weights(self, queries_BNC: Tensor, keys_BMC: Tensor) -> Tensor:
        return (queries_BNC @ keys_BMC.mT).softmax(dim=-1)


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

    def forward(self, queries_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.softmax_attention(self.theta(queries_BNC), self.phi(keys_BMC), g_BMV, scale=self.scale)

    def weights(self, queries_BNC: Tensor, keys_BMC: Tensor) -> Tensor:
        affinity_BNM: Tensor = self.theta(queries_BNC) @ self.phi(keys_BMC).mT
        return (affinity_BNM * self.scale).softmax(dim=-1)


class DotProduct(_Embedded):
    """f = θ_iᵀ φ_j, divided by the number of keys (equation 4)."""

    def forward(self, queries_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.scaled_product(self.theta(queries_BNC), self.phi(keys_BMC), g_BMV)

    def weights(self, queries_BNC: Tensor, keys_BMC: Tensor) -> Tensor:
        affinity_BNM: Tensor = self.theta(queries_BNC) @ self.phi(keys_BMC).mT
        return affinity_BNM / keys_BMC.shape[1]


class Concatenation(_Embedded):
    """f = ReLU(w_fᵀ [θ_i, φ_j]), divided by the number of keys (equation 5). w_f has no bias."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__(channels, embedding)
        self.w_f = nn.Parameter(torch.empty(2 * embedding))

    def _halves(self, queries_BNC: Tensor, keys_BMC: Tensor) -> tuple[Tensor, Tensor]:
        w_theta, w_phi = self.w_f.chunk(2)
        return self.theta(queries_BNC) @ w_theta, self.phi(keys_BMC) @ w_phi

    def forward(self, queries_BNC: Tensor, keys_BMC: Tensor, g_BMV: Tensor) -> Tensor:
        a_BN, b_BM = self._halves(queries_BNC, keys_BMC)
        return ops.relu_concatenation(a_BN, b_BM, g_BMV)

    def weights(self, queries_BNC: Tensor, keys_BMC: Tensor) -> Tensor:
        a_BN, b_BM = self._halves(queries_BNC, keys_BMC)
        return (a_BN[..., None] + b_BM[:, None]).relu() / keys_BMC.shape[1]
