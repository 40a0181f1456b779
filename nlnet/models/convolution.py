"""3-D convolutions in faster forms: the same parameters and results.

With its channels last in memory (B, T, H, W, C), a clip is a batch of B·T pictures too, and B pictures whose rows are
frames, and a list of B·T·H·W positions, and no copy is needed to see it so. A kernel of one frame is then a 2-D
convolution of pictures, one of t×1×1 a 2-D convolution of rows that are frames, and one of a single position a matrix
product or a convolution of a single row. docs/performance.md has the measurements.
Axes: B clips, C channels in, O channels out, T frames, H×W positions, P positions of a frame, K frames of a kernel.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from nlnet.ops.autocast import autocast_to, without_autocast

# With so many weights, a matrix product is faster than a 1×1 convolution on CPUs; with fewer, it is slower.
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
            return self._along_time(x)
        return super().forward(x)

    def _pictures(self, x: Tensor) -> Tensor:
        """A 2-D convolution of every frame. [B, C, T, H, W] -> [B, O, T, H', W']."""
        b, c, t, h, w = x.shape
        weight_OCHW = self.weight.squeeze(2)
        single = self.kernel_size == (1, 1, 1) and self.padding == (0, 0, 0)
        if single and (self.weight.numel() >= _MANY_WEIGHTS or _on_cpu(x)):
            return self._rows(x[:, :, :, :: self.stride[1], :: self.stride[2]], weight_OCHW)
        pictures = x.transpose(1, 2).reshape(b * t, c, h, w)
        y = F.conv2d(pictures, weight_OCHW, self.bias, self.stride[1:], self.padding[1:])
        return y.view(b, t, *y.shape[1:]).transpose(1, 2)

    def _rows(self, x: Tensor, weight_OCHW: Tensor) -> Tensor:
        """1×1×1: a matrix product, or a convolution of a single row of pixels. [B, C, T, H, W] -> [B, O, T, H, W]."""
        x_BTHWC = x.movedim(1, -1)
        x_PC = x_BTHWC.reshape(-1, x.shape[1])  # of a strided view with five axes, PyTorch makes many products
        if self.weight.numel() >= _MANY_WEIGHTS:
            # Channels last, as the weights: gradients with other strides make DistributedDataParallel complain.
            y_PO = F.linear(x_PC, weight_OCHW.movedim(1, -1).flatten(1), self.bias)
        else:
            y_1O1P = F.conv2d(_one_row(x_PC), weight_OCHW, self.bias)
            y_PO = y_1O1P.movedim(1, -1).flatten(0, 2)
        return y_PO.view(*x_BTHWC.shape[:-1], -1).movedim(-1, 1)

    def _along_time(self, x: Tensor) -> Tensor:
        """t×1×1, as long as the clip. [B, C, T, H, W] -> [B, O, T, H, W]."""
        b, c, t, h, w = x.shape
        x, weight = autocast_to(x, self.weight)
        y: Tensor = _AlongTime.apply(x.movedim(1, -1).reshape(b, t, h * w, c), weight.flatten(2))
        y_BTHWO = y.view(b, t, h, w, -1)
        return (y_BTHWO if self.bias is None else y_BTHWO + self.bias).movedim(-1, 1)


def _on_cpu(x: Tensor) -> bool:
    """Whether the forms that only pay on CPUs may be taken: in exported and compiled networks, convolutions stay."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class _AlongTime(torch.autograd.Function):
    """A convolution of pictures whose rows are frames. [B, T, P, C], [O, C, K] -> [B, T, P, O].

    A function of its own for the gradient of its weights, which takes PyTorch two to three times as long.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x_BTPC: Tensor, weight_OCK: Tensor) -> Tensor:
        x_BTPC = x_BTPC.contiguous()
        ctx.save_for_backward(x_BTPC, weight_OCK)
        with without_autocast(x_BTPC):
            y_BOTP = F.conv2d(x_BTPC.movedim(-1, 1), weight_OCK[..., None], padding=(weight_OCK.shape[2] // 2, 0))
        return y_BOTP.movedim(1, -1).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy_BTPO: Tensor) -> tuple[Tensor | None, Tensor]:
        x_BTPC, weight_OCK = ctx.saved_tensors  # type: ignore[attr-defined]
        dy_BTPO, kernel = dy_BTPO.contiguous(), weight_OCK.shape[2]
        sums = torch.promote_types(weight_OCK.dtype, torch.float32)  # over the clips of the batch
        dweight_OKC = weight_OCK.new_zeros(len(weight_OCK), kernel, weight_OCK.shape[1], dtype=sums)
        dx_BTPC = None
        with without_autocast(x_BTPC):
            if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
                pictures = dy_BTPO.movedim(-1, 1), x_BTPC.movedim(-1, 1)
                dx_BTPC = _gradient(0, *pictures, weight_OCK[..., None], padding=(kernel // 2, 0)).movedim(1, -1)
            for k, source, target in _moves(kernel, x_BTPC.shape[1]):
                for x_TPC, dy_TPO in zip(x_BTPC[:, source], dy_BTPO[:, target], strict=True):
                    dweight_OKC[:, k] += _product(dy_TPO.flatten(0, 1), x_TPC.flatten(0, 1), weight_OCK[..., :1])
        return dx_BTPC, dweight_OKC.mT.to(weight_OCK.dtype)


def _product(dy_RO: Tensor, x_RC: Tensor, like_OC1: Tensor) -> Tensor:
    """dyᵀ x over R rows [O, C], as the gradient of a 1×1 convolution where that is faster."""
    if like_OC1.numel() >= _MANY_WEIGHTS:
        return dy_RO.mT @ x_RC
    return _gradient(1, _one_row(dy_RO), _one_row(x_RC), like_OC1[..., None])[..., 0, 0]


def _gradient(of: int, dy: Tensor, x: Tensor, weight: Tensor, *, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """The gradient of a 2-D convolution to its input (``of=0``) or weight (``of=1``)."""
    one, none, mask = (1, 1), (0, 0), (of == 0, of == 1, False)
    gradients: Sequence[Tensor] = torch.ops.aten.convolution_backward(
        dy, x, weight, None, one, padding, one, False, none, 1, mask
    )
    return gradients[of]


def _one_row(x_RC: Tensor) -> Tensor:
    """Rows as a picture [1, C, 1, R], made so that its strides say without doubt that channels are last."""
    return x_RC.view(1, 1, *x_RC.shape).movedim(-1, 1)


def _moves(kernel: int, frames: int) -> list[tuple[int, slice, slice]]:
    """For each k: the frames that it reads, and those that it adds to, where there are any."""
    shifts = [(k, k - kernel // 2) for k in range(kernel)]
    return [
        (k, slice(max(shift, 0), frames + min(shift, 0)), slice(max(-shift, 0), frames - max(shift, 0)))
        for k, shift in shifts
        if abs(shift) < frames
    ]
