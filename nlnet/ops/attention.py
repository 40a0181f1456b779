"""y_i = 1/C(x) · Σ_j f(x_i, x_j) g(x_j) (paper, equation 1) for each pairwise function f, exactly.

Axes: B clips (or groups of positions), N query positions, M key positions (fewer than N when subsampled), D embedding
channels, V channels of g. No function builds an [N, M] matrix when a cheaper exact form exists. (In ONNX files, which
have the standard's operators only, all do.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_attention(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, *, scale: float) -> Tensor:
    """Gaussian and embedded Gaussian (equations 2 and 3). [B, N, D], [B, M, D], [B, M, V] -> [B, N, V].

    f = exp(scale · θ_iᵀφ_j) and C(x) = Σ_j f, so that 1/C · f is a softmax over the key positions.
    """
    if torch.onnx.is_in_onnx_export():  # which has no fused kernel for tokens without heads: the definition itself
        return (theta_BND @ phi_BMD.mT * scale).softmax(dim=-1) @ g_BMV
    # The memory-efficient kernel wants contiguous tokens: transposed views silently take the [N, M] path.
    return F.scaled_dot_product_attention(theta_BND.contiguous(), phi_BMD.contiguous(), g_BMV.contiguous(), scale=scale)


def scaled_product(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
    """Dot product (equation 4), C(x) = M. [B, N, D], [B, M, D], [B, M, V] -> [B, N, V].

    Without a softmax the product is associative: θ(φᵀg) costs (N + M)·D·V where (θφᵀ)g costs N·M·(D + V).
    """
    (n, d), (m, v) = theta_BND.shape[1:], g_BMV.shape[1:]
    if (n + m) * d * v < n * m * (d + v):
        return theta_BND @ ((phi_BMD.mT / m) @ g_BMV)
    return (theta_BND @ (phi_BMD.mT / m)) @ g_BMV


def relu_concatenation(a_BN: Tensor, b_BM: Tensor, g_BMV: Tensor) -> Tensor:
    """Concatenation (equation 5), C(x) = M. [B, N], [B, M], [B, M, V] -> [B, N, V].

    w_fᵀ[θ_i, φ_j] splits into a_i + b_j, so f = ReLU(a_i + b_j) is zero for all b_j ≤ -a_i. With b sorted from large to
    small, y_i = a_i · Σ g_j + Σ b_j g_j over a prefix of the keys: one search and one gather in two running sums, in
    O((N + M) log M + (N + M) V) and without any [N, M] or [2D, N, M] tensor.
    """
    m, v = g_BMV.shape[1:]
    if torch.onnx.is_in_onnx_export():  # which has no searchsorted: the definition itself
        return (a_BN[..., None] + b_BM[:, None]).relu() @ g_BMV / m
    result_type = g_BMV.dtype
    precise = torch.promote_types(result_type, torch.float32)  # running sums need float32 under autocast
    a_BN, b_BM, g_BMV = a_BN.to(precise), b_BM.to(precise), g_BMV.to(precise)
    # Only a + b counts: centring b keeps two large opposite offsets from cancelling in the sums below.
    offset_B1 = b_BM.detach().mean(dim=1, keepdim=True)
    a_BN, b_BM = a_BN + offset_B1, b_BM - offset_B1
    b_BM, order_BM = b_BM.sort(dim=1, descending=True)
    g_BMV = g_BMV.gather(1, order_BM[..., None].expand_as(g_BMV))
    sums = torch.cat([g_BMV, b_BM[..., None] * g_BMV], dim=2).cumsum(1)
    sums = F.pad(sums, (0, 0, 1, 0))  # row k: the sum over the k largest b
    count_BN = torch.searchsorted(-b_BM.detach().contiguous(), a_BN.detach().contiguous())  # how many b_j > -a_i
    sum_g, sum_bg = torch.split(sums.gather(1, count_BN[..., None].expand(-1, -1, 2 * v)), v, dim=2)
    y_BNV: Tensor = (a_BN[..., None] * sum_g + sum_bg) / m
    return y_BNV.to(result_type)
