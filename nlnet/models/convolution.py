"""3-D convolutions computed as 2-D ones: the same parameters and results, from faster routines.

With its channels last in memory (B, T, H, W, C), a clip is a batch of B·T pictures too, and no copy is needed to see it
so. A kernel of one frame is then a 2-D convolution of pictures. So is one of t×1×1: each picture gives t·O channels, of
which every frame adds up its own share and its neighbours'.
Axes: B clips, C channels in, O channels out, T frames, H×W positions.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """``nn.Conv3d``. [B, C, T, H, W] -> [B, O, T', H', W'].

    Rewritten without bias, groups and dilation, as residual networks have them; others run as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        plain = self.bias is None and self.groups == 1 and self.dilation == (1, 1, 1) and self.padding_mode == "zeros"
        if plain and kernel == 1 and self.padding[0] == 0:
            return self._pictures(x[:, :, :: self.stride[0]], self.weight[:, :, 0])
        same_length = kernel % 2 == 1 and self.stride[0] == 1 and self.padding == (kernel // 2, 0, 0)
        if plain and same_length and self.kernel_size[1:] == (1, 1):
            return self._shares(x, kernel)
        return super().forward(x)

    def _pictures(self, x: Tensor, weight_OCHW: Tensor) -> Tensor:
        """A 2-D convolution of every frame. [B, C, T, H, W] -> [B, O, T, H', W']."""
        b, c, t, h, w = x.shape
        pictures = x.transpose(1, 2).reshape(b * t, c, h, w)
        y = F.conv2d(pictures, weight_OCHW, None, self.stride[1:], self.padding[1:])
        return y.view(b, t, *y.shape[1:]).transpose(1, 2)

    def _shares(self, x: Tensor, kernel: int) -> Tensor:
        """t×1×1: frame f of the output adds share k of frame f + k - t // 2, where there is one."""
        shares = self._pictures(x, self.weight.permute(2, 0, 1, 3, 4).flatten(0, 1)).chunk(kernel, dim=1)
        y = shares[kernel // 2].clone()
        for k, share in enumerate(shares):
            shift = k - kernel // 2
            if shift < 0:
                y[:, :, -shift:] += share[:, :, :shift]
            elif shift > 0:
                y[:, :, :-shift] += share[:, :, shift:]
        return y
