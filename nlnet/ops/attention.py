"""Gaussian, embedded Gaussian and dot product (paper, equations 2 to 4) as pure functions of token tensors, exactly.

Each chooses its form by shape; docs/performance.md has the rules and the measurements behind them.
Axes: B clips (or groups of positions), N query positions, M key positions (fewer than N when subsampled), D embedding
channels, V channels of g.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nlnet.ops.autocast import autocast_to, without_autocast

# Up to so many entries (16 MiB in float32), the matrix of weights is made and kept: recomputing it costs more.
LARGEST_MATRIX = 1 << 22
_TILE = 1 << 21  # bytes of a tile of the matrix: with the few that a backward pass has at a time, within the caches
_ROWS = 64  # matrix products are fast with multiples of this


def softmax_attention(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, *, scale: float) -> Tensor:
    """Gaussian and embedded Gaussian (equations 2 and 3). [B, N, D], [B, M, D], [B, M, V] -> [B, N, V].

    f = exp(scale · θ_iᵀφ_j) and C(x) = Σ_j f, so that 1/C · f is a softmax over the key positions. Never more than
    ``LARGEST_MATRIX`` weights are in memory (or one of each clip).
    """
    theta_BND, phi_BMD, g_BMV = autocast_to(theta_BND, phi_BMD, g_BMV)
    with without_autocast(theta_BND):
        if torch.onnx.is_in_onnx_export():  # no fused kernel for tokens without heads: the definition itself
            return _definition(theta_BND, phi_BMD, g_BMV, scale)
        if torch.compiler.is_compiling() or _has_fused_kernel(theta_BND, phi_BMD, g_BMV):
            return _fused(theta_BND, phi_BMD, g_BMV, scale)
        (b, n, _), m = theta_BND.shape, phi_BMD.shape[1]
        # Products of float16 can pass its largest number; tiles are made in float32 then.
        if b * n * m <= LARGEST_MATRIX and theta_BND.dtype != torch.float16:
            return _definition(theta_BND, phi_BMD, g_BMV, scale)
        y_BNV: Tensor = _Tiled.apply(theta_BND, phi_BMD, g_BMV, scale)
        return y_BNV


def scaled_product(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
    """Dot product (equation 4), C(x) = M. [B, N, D], [B, M, D], [B, M, V] -> [B, N, V].

    Without a softmax the product is associative: θ(φᵀg) costs (N + M)·D·V where (θφᵀ)g costs N·M·(D + V).
    """
    (n, d), (m, v) = theta_BND.shape[1:], g_BMV.shape[1:]
    if (n + m) * d * v < n * m * (d + v):
        return theta_BND @ ((phi_BMD.mT / m) @ g_BMV)
    return (theta_BND @ (phi_BMD.mT / m)) @ g_BMV


def _definition(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, scale: float) -> Tensor:
    """With the matrix. Scaling θ rather than the matrix is less work, and less to keep."""
    return (theta_BND * scale @ phi_BMD.mT).softmax(dim=-1) @ g_BMV


def _fused(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, scale: float) -> Tensor:
    # Fused kernels want contiguous tokens of one head, [B, 1, L, D]: other views silently take the [N, M] path.
    query, key, value = (tensor.contiguous()[:, None] for tensor in (theta_BND, phi_BMD, g_BMV))
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[:, 0]


def _has_fused_kernel(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> bool:
    """Whether a GPU has a kernel for these sizes: flash up to 256 channels, the memory-efficient one with any."""
    if not theta_BND.is_cuda:
        return False  # on CPUs its backward pass is slower than the tiles below
    query, key, value = (tensor[:, None] for tensor in (theta_BND, phi_BMD, g_BMV))
    wanted = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, False, False)
    return torch.backends.cuda.can_use_flash_attention(wanted) or torch.backends.cuda.can_use_efficient_attention(
        wanted
    )


class _Tiled(torch.autograd.Function):
    """Softmax attention of which no weight is kept: the backward pass makes them anew, tile by tile.

    A weight is exp(logit - shift) / total, with a shift and a total for each query.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, scale: float) -> Tensor:
        y_BNV, shift_BN1, total_BN1 = _in_tiles(theta_BND, phi_BMD, g_BMV, scale)
        ctx.save_for_backward(theta_BND, phi_BMD, g_BMV, y_BNV, shift_BN1, total_BN1)
        ctx.scale = scale  # type: ignore[attr-defined]
        return y_BNV

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy_BNV: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """dS = P ∘ (dy gᵀ - Σ_v dy y), of which dθ = dS φ and dφ = dSᵀ θ; dg = Pᵀ dy."""
        theta_BND, phi_BMD, g_BMV, y_BNV, shift_BN1, total_BN1 = ctx.saved_tensors  # type: ignore[attr-defined]
        scale: float = ctx.scale  # type: ignore[attr-defined]
        precise = shift_BN1.dtype  # of sums over tiles
        dtheta_BND = torch.zeros_like(theta_BND, dtype=precise)
        dphi_BMD = torch.zeros_like(phi_BMD, dtype=precise)
        dg_BMV = torch.zeros_like(g_BMV, dtype=precise)
        for rows, tiles in _tiles(theta_BND, phi_BMD):
            scaled, dy = theta_BND[:, rows] * scale, dy_BNV[:, rows]
            shift, share = shift_BN1[:, rows], total_BN1[:, rows].reciprocal()
            mean = (dy * y_BNV[:, rows]).sum(-1, keepdim=True)
            for keys in tiles:
                weights = _logits(scaled, phi_BMD[:, keys]).sub_(shift).exp_().mul_(share).to(dy.dtype)
                _add_product(dg_BMV[:, keys], weights.mT, dy)
                dlogits = torch.baddbmm(mean, dy, g_BMV[:, keys].mT, beta=-1).mul_(weights)
                _add_product(dphi_BMD[:, keys], dlogits.mT, scaled)
                _add_product(dtheta_BND[:, rows], dlogits, phi_BMD[:, keys])
        return dtheta_BND.mul_(scale).to(theta_BND.dtype), dphi_BMD.to(phi_BMD.dtype), dg_BMV.to(g_BMV.dtype), None


def _in_tiles(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """y [B, N, V], and shift and total [B, N, 1]: the largest logit so far moves the sums that were taken before it."""
    precise = _precise(theta_BND)
    b, n, _ = theta_BND.shape
    y_BNV = g_BMV.new_empty(b, n, g_BMV.shape[2])
    shift_BN1 = theta_BND.new_full((b, n, 1), -torch.inf, dtype=precise)
    total_BN1 = torch.zeros_like(shift_BN1)
    for rows, tiles in _tiles(theta_BND, phi_BMD):
        scaled, shift, total = theta_BND[:, rows] * scale, shift_BN1[:, rows], total_BN1[:, rows]
        y = torch.zeros_like(y_BNV[:, rows], dtype=precise)
        for keys in tiles:
            logits = _logits(scaled, phi_BMD[:, keys])
            largest = torch.maximum(shift, logits.amax(-1, keepdim=True))
            shrink = (shift - largest).exp_()
            weights = logits.sub_(largest).exp_()
            total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
            _add_product(y.mul_(shrink), weights.to(g_BMV.dtype), g_BMV[:, keys])
            shift.copy_(largest)
        y_BNV[:, rows] = y.div_(total)
    return y_BNV, shift_BN1, total_BN1


def _tiles(theta_BND: Tensor, phi_BMD: Tensor) -> list[tuple[slice, list[slice]]]:
    """Squares of queries and keys whose weights fit ``_TILE``: for each run of queries the runs of keys."""
    edge = math.isqrt(_TILE // (theta_BND.shape[0] * _precise(theta_BND).itemsize))
    edge = edge // _ROWS * _ROWS or max(1, edge)
    runs_of_keys = _runs(phi_BMD.shape[1], edge)
    return [(rows, runs_of_keys) for rows in _runs(theta_BND.shape[1], edge)]


def _runs(count: int, length: int) -> list[slice]:
    return [slice(first, min(first + length, count)) for first in range(0, count, length)]


def _logits(scaled_BRD: Tensor, phi_BKD: Tensor) -> Tensor:
    """[B, R, D], [B, K, D] -> [B, R, K] in float32 at least; products of float16 can pass its largest number."""
    if scaled_BRD.dtype == torch.float16:
        return scaled_BRD.float() @ phi_BKD.float().mT
    return (scaled_BRD @ phi_BKD.mT).to(_precise(scaled_BRD))


def _precise(tensor: Tensor) -> torch.dtype:
    """The type of logits and of sums over tiles."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _add_product(total_BXY: Tensor, left_BXK: Tensor, right_BKY: Tensor) -> None:
    """total += left @ right; without a tensor for the product, where the types are the same."""
    if total_BXY.dtype == left_BXK.dtype:
        torch.baddbmm(total_BXY, left_BXK, right_BKY, out=total_BXY)  # baddbmm_ is not counted by FlopCounterMode
    else:
        total_BXY += left_BXK @ right_BKY
