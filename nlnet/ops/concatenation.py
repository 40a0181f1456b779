"""Concatenation (paper, equation 5) as pure functions: y_i = Σ_j ReLU(a_i + b_j) g_j / M, exactly.

w_fᵀ[θ_i, φ_j] splits into a_i + b_j, so that no [N, M] matrix is needed, let alone a [2D, N, M] tensor.
Axes: B clips (or groups of positions), N query positions, M key positions, V channels of g.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nlnet.ops.autocast import without_autocast

# The definition is faster than sorting while N·M / (N + M) is below this (docs/performance.md).
_FEW_PAIRS = 200
_RUN = 32  # rows of a running sum that are added one by one


def relu_concatenation(a_BN: Tensor, b_BM: Tensor, g_BMV: Tensor) -> Tensor:
    """Concatenation (equation 5), C(x) = M. [B, N], [B, M], [B, M, V] -> [B, N, V].

    ReLU(a_i + b_j) is zero for all b_j ≤ -a_i. With b sorted from large to small, y_i = a_i · Σ g_j + Σ b_j g_j over a
    prefix of the keys: one search and one row of two running sums, in O((N + M) log M + (N + M) V). Sums are in float32
    at least, also under autocast; the result has the type of g.
    """
    n, (m, _) = a_BN.shape[1], g_BMV.shape[1:]
    # Exported files have the standard's operators only: the definition itself.
    by_definition = n * m < _FEW_PAIRS * (n + m) or torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
    result_type = g_BMV.dtype
    precise = torch.promote_types(result_type, torch.float32)
    with without_autocast(a_BN):
        a_BN, b_BM, g_BMV = a_BN.to(precise) / m, b_BM.to(precise) / m, g_BMV.to(precise)
        if by_definition:
            y_BNV = (a_BN[..., None] + b_BM[:, None]).relu() @ g_BMV
        else:
            y_BNV = _Sorted.apply(a_BN, b_BM, g_BMV)
    return y_BNV.to(result_type)


class _Sorted(torch.autograd.Function):
    """Σ_j ReLU(a_i + b_j) g_j. Its gradient to g is the same sum with queries and keys in each other's place."""

    @staticmethod
    def forward(ctx: FunctionCtx, a_BN: Tensor, b_BM: Tensor, g_BMV: Tensor) -> Tensor:
        y_BNV, slope_BNV = _sum_above(a_BN, b_BM, g_BMV)
        ctx.save_for_backward(a_BN, b_BM, g_BMV, slope_BNV)
        return y_BNV

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy_BNV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a_BN, b_BM, g_BMV, slope_BNV = ctx.saved_tensors  # type: ignore[attr-defined]
        dg_BMV, slope_BMV = _sum_above(b_BM, a_BN, dy_BNV)
        return (dy_BNV * slope_BNV).sum(-1), (g_BMV * slope_BMV).sum(-1), dg_BMV


def _sum_above(a_BN: Tensor, b_BM: Tensor, g_BMV: Tensor) -> tuple[Tensor, Tensor]:
    """Over the keys with a_i + b_j > 0: Σ (a_i + b_j) g_j and Σ g_j. [B, N], [B, M], [B, M, V] -> 2 x [B, N, V]."""
    negative_BM, order_BM = (-b_BM.contiguous()).sort(dim=1)
    count_BN = torch.searchsorted(negative_BM, a_BN.contiguous())  # how many b_j > -a_i
    # Only a + b counts: centring b keeps two large opposite offsets from cancelling in the sums below.
    offset_B1 = b_BM.mean(dim=1, keepdim=True)
    g_BMV = _rows(g_BMV, order_BM)
    slope_BNV = _rows(_running_sum(g_BMV), count_BN)
    y_BNV = _rows(_running_sum(g_BMV * (-negative_BM - offset_B1)[..., None]), count_BN)
    return y_BNV.addcmul_(slope_BNV, (a_BN + offset_B1)[..., None]), slope_BNV


def _rows(x_BKV: Tensor, index_BN: Tensor) -> Tensor:
    """Row index[i] of x for each i. [B, K, V], [B, N] -> [B, N, V]. Whole rows: four times as fast as a gather."""
    b, k, v = x_BKV.shape
    first_B1 = torch.arange(0, b * k, k, device=x_BKV.device)[:, None]
    return x_BKV.reshape(b * k, v).index_select(0, (index_BN + first_B1).flatten()).view(b, -1, v)


def _running_sum(x_BMV: Tensor) -> Tensor:
    """Row k: the sum of the first k rows, from k = 0. [B, M, V] -> [B, K, V] with K > M (rows after M are not for use).

    In runs of rows that are summed side by side: PyTorch's cumsum goes down each column alone, five times as slow.
    """
    b, m, v = x_BMV.shape
    runs = m // _RUN + 1
    sums = x_BMV.new_zeros(b, runs * _RUN, v)
    sums[:, 1 : m + 1] = x_BMV
    sums_BRKV = sums.view(b, runs, _RUN, v)
    for row in range(1, _RUN):
        sums_BRKV[:, :, row] += sums_BRKV[:, :, row - 1]
    sums_BRKV[:, 1:] += sums_BRKV[:, :-1, -1].cumsum(1)[:, :, None]
    return sums
