"""Gaussian, embedded Gaussian and dot product (paper, equations 2 to 4) as pure functions of token tensors, exactly.

Each chooses its form by shape; docs/performance.md has the rules and the measurements behind them.
Axes: B clips (or groups of positions), N query positions, M key positions (fewer than N when subsampled), D embedding
channels, V channels of g.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from nlnet.ops.autocast import autocast_to, without_autocast

# Up to so many entries (16 MiB in float32), the matrix of weights is made and kept: recomputing it costs more.
LARGEST_MATRIX = 1 << 22
_TILE = 1 << 23  # bytes of a tile of the matrix: with the four that a backward pass has at a time, within the caches


def softmax_attention(theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, *, scale: float) -> Tensor:
    """Gaussian and embedded Gaussian (equations 2 and 3). [B, N, D], [B, M, D], [B, M, V] -> [B, N, V].

    f = exp(scale · θ_iᵀφ_j) and C(x) = Σ_j f, so that 1/C · f is a softmax over the key positions. Never more than
    ``LARGEST_MATRIX`` weights are in memory (or one query's of each clip).
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
    """Softmax attention over tiles of queries; the backward pass makes each tile of weights anew."""

    @staticmethod
    def forward(ctx: FunctionCtx, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor, scale: float) -> Tensor:
        if theta_BND.device.type == "cpu" and theta_BND.shape[2] == g_BMV.shape[2]:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error, not the matrix, should it not fit
                y_BNV = _fused(theta_BND, phi_BMD, g_BMV, scale)
        else:
            y_BNV = g_BMV.new_empty(*theta_BND.shape[:2], g_BMV.shape[2])
            for tile in _tiles(theta_BND, phi_BMD):
                y_BNV[:, tile] = _weights(theta_BND[:, tile] * scale, phi_BMD) @ g_BMV
        ctx.save_for_backward(theta_BND, phi_BMD, g_BMV, y_BNV)
        ctx.scale = scale  # type: ignore[attr-defined]
        return y_BNV

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy_BNV: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """dS = P ∘ (dy gᵀ - Σ_v dy y), of which dθ = dS φ and dφ = dSᵀ θ; dg = Pᵀ dy."""
        theta_BND, phi_BMD, g_BMV, y_BNV = ctx.saved_tensors  # type: ignore[attr-defined]
        scale: float = ctx.scale  # type: ignore[attr-defined]
        precise = torch.promote_types(theta_BND.dtype, torch.float32)
        dtheta_BND = torch.empty_like(theta_BND)
        # Sums over the tiles stay in float32.
        dphi_BMD = torch.zeros_like(phi_BMD, dtype=precise)
        dg_BMV = torch.zeros_like(g_BMV, dtype=precise)
        for tile in _tiles(theta_BND, phi_BMD):
            scaled, dy = theta_BND[:, tile] * scale, dy_BNV[:, tile]
            weights = _weights(scaled, phi_BMD)
            dg_BMV += weights.mT @ dy
            mean = (dy * y_BNV[:, tile]).sum(-1, keepdim=True)
            dlogits = torch.baddbmm(mean, dy, g_BMV.mT, beta=-1).mul_(weights)
            dphi_BMD += dlogits.mT @ scaled
            dtheta_BND[:, tile] = dlogits @ phi_BMD * scale
        return dtheta_BND, dphi_BMD.to(phi_BMD.dtype), dg_BMV.to(g_BMV.dtype), None


def _tiles(theta_BND: Tensor, phi_BMD: Tensor) -> list[slice]:
    """Runs of queries whose weights fit ``_TILE``; of one query at least."""
    (b, n, _), m = theta_BND.shape, phi_BMD.shape[1]
    rows = max(1, _TILE // (b * m * theta_BND.element_size()))
    return [slice(first, first + rows) for first in range(0, n, rows)]


def _weights(scaled_BRD: Tensor, phi_BMD: Tensor) -> Tensor:
    """[B, R, D], [B, M, D] -> softmax over the keys [B, R, M]."""
    if scaled_BRD.dtype == torch.float16:
        return (scaled_BRD.float() @ phi_BMD.float().mT).softmax(dim=-1).half()
    return (scaled_BRD @ phi_BMD.mT).softmax(dim=-1)
