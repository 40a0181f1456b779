"""3-D convolutions in faster forms: the same parameters and results.

With its channels last in memory (B, T, H, W, C), a clip is a batch of B·T pictures too, and a list of B·T·H·W
positions, and no copy is needed to see it so. A kernel of one frame is then a 2-D convolution of pictures; one of a
single position a matrix product; and one of t×1×1 a sum of t matrix products, of the clip and of the clip moved by some
frames. docs/performance.md has the measurements.
Axes: B clips, C channels in, O channels out, T frames, H×W positions, P positions of a frame, K frames of a kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from nlnet.ops.autocast import autocast_to, without_autocast

# A 1×1 convolution with so many weights is faster as a matrix product on CPUs; with fewer, there is no difference.
_MANY_WEIGHTS = 1 << 18


class Conv3d(nn.Conv3d):
    """``nn.Conv3d``. [B, C, T, H, W] -> [B, O, T', H', W'].

    Rewritten without groups and dilation, as residual networks have them; others run as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        plain = self.groups == 1 and self.dilation == (1, 1, 1) and self.padding_mode == "zeros"
        if plain and kernel == 1 and self.padding[0] == 0:
            return self._pictures(x[:, :, :: self.stride[0]] if self.stride[0] > 1 else x)
        same_length = kernel % 2 == 1 and self.stride == (1, 1, 1) and self.padding == (kernel // 2, 0, 0)
        if plain and same_length and self.kernel_size[1:] == (1, 1) and _on_cpu(x):
            return self._moved(x)
        return super().forward(x)

    def _pictures(self, x: Tensor) -> Tensor:
        """A 2-D convolution of every frame. [B, C, T, H, W] -> [B, O, T, H', W']."""
        b, c, t, h, w = x.shape
        weight_OCHW = self.weight.squeeze(2)
        if self.kernel_size == (1, 1, 1) and self.padding == (0, 0, 0) and self.weight.numel() >= _MANY_WEIGHTS:
            if self.stride[1:] != (1, 1):
                x = x[:, :, :, :: self.stride[1], :: self.stride[2]]
            # Channels last, as the weights: gradients with other strides make DistributedDataParallel complain.
            weight_OC = weight_OCHW.movedim(1, -1).flatten(1)
            x_BTHWC = x.movedim(1, -1)
            # As rows: of a strided view with five axes, PyTorch makes a product of many matrices, with copies.
            y_PO = F.linear(x_BTHWC.reshape(-1, c), weight_OC, self.bias)
            return y_PO.view(*x_BTHWC.shape[:-1], -1).movedim(-1, 1)
        pictures = x.transpose(1, 2).reshape(b * t, c, h, w)
        y = F.conv2d(pictures, weight_OCHW, self.bias, self.stride[1:], self.padding[1:])
        return y.view(b, t, *y.shape[1:]).transpose(1, 2)

    def _moved(self, x: Tensor) -> Tensor:
        """t×1×1, as long as the clip. [B, C, T, H, W] -> [B, O, T, H, W]."""
        b, c, t, h, w = x.shape
        weight_KOC = self.weight.flatten(2).permute(2, 0, 1).contiguous()
        x, weight_KOC = autocast_to(x, weight_KOC)
        y: Tensor = _Moved.apply(x.movedim(1, -1).reshape(b, t, h * w, c), weight_KOC)
        y_BTHWO = y.view(b, t, h, w, -1)
        return (y_BTHWO if self.bias is None else y_BTHWO + self.bias).movedim(-1, 1)


def _on_cpu(x: Tensor) -> bool:
    """Whether the forms that only pay on CPUs may be taken: in exported and compiled networks, convolutions stay."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class _Moved(torch.autograd.Function):
    """Σ_k x moved by k - K // 2 frames · w_kᵀ. [B, T, P, C], [K, O, C] -> [B, T, P, O].

    A function of its own, because the products are added up in place, which autograd alone would pay with copies.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x_BTPC: Tensor, weight_KOC: Tensor) -> Tensor:
        ctx.save_for_backward(x_BTPC, weight_KOC)
        with without_autocast(x_BTPC):
            y_BTPO = x_BTPC @ weight_KOC[len(weight_KOC) // 2].mT
            for k, source, target in _moves(len(weight_KOC), x_BTPC.shape[1]):
                for x_TPC, y_TPO in zip(x_BTPC, y_BTPO, strict=True):
                    _flat(y_TPO[target]).addmm_(_flat(x_TPC[source]), weight_KOC[k].mT)
        return y_BTPO

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy_BTPO: Tensor) -> tuple[Tensor, Tensor]:
        x_BTPC, weight_KOC = ctx.saved_tensors  # type: ignore[attr-defined]
        dy_BTPO = dy_BTPO.contiguous()
        middle = len(weight_KOC) // 2
        with without_autocast(x_BTPC):
            dx_BTPC = dy_BTPO @ weight_KOC[middle]
            dweight_KOC = torch.zeros_like(weight_KOC)
            torch.mm(dy_BTPO.flatten(0, 2).mT, x_BTPC.flatten(0, 2), out=dweight_KOC[middle])
            for k, source, target in _moves(len(weight_KOC), x_BTPC.shape[1]):
                for x_TPC, dx_TPC, dy_TPO in zip(x_BTPC, dx_BTPC, dy_BTPO, strict=True):
                    dy = _flat(dy_TPO[target])
                    _flat(dx_TPC[source]).addmm_(dy, weight_KOC[k])
                    dweight_KOC[k].addmm_(dy.mT, _flat(x_TPC[source]))
        return dx_BTPC, dweight_KOC


def _moves(kernel: int, frames: int) -> list[tuple[int, slice, slice]]:
    """For each k but the middle one: the frames that it reads, and those that it adds to, where there are any."""
    found = []
    for k in range(kernel):
        shift = k - kernel // 2
        if shift and abs(shift) < frames:
            found.append(
                (k, slice(max(shift, 0), frames + min(shift, 0)), slice(max(-shift, 0), frames - max(shift, 0)))
            )
    return found


def _flat(x_TPC: Tensor) -> Tensor:
    """Positions of consecutive frames as rows, in place. [T, P, C] -> [T·P, C]."""
    return x_TPC.view(-1, x_TPC.shape[-1])
