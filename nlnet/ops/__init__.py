"""The arithmetic of the non-local operation (paper, equation 1), as pure functions of token tensors."""

from nlnet.ops.attention import scaled_product, softmax_attention
from nlnet.ops.concatenation import relu_concatenation

__all__ = ["relu_concatenation", "scaled_product", "softmax_attention"]
