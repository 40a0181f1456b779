"""pytorchvideo's hub models c2d_r50, i3d_r50 and slow_r50, into ours.

Names as in pytorchvideo's ``models`` (``resnet.py``, ``stem.py``, ``head.py``). ``blocks`` counts the stem, the stages
and the head; C2D and I3D have a pool without tensors behind res2, which takes a number, and Slow has none.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from nlnet.errors import CheckpointError
from nlnet.weights.foreign import Foreign, Format, renamed
from nlnet.weights.names import Names

_BLOCK = "blocks.{child}.res_blocks.{block}"


def _names(child: Mapping[int, int], *, head: int) -> Names:
    return Names(
        [
            ("stem.conv", "blocks.0.conv"),
            ("stem.bn", "blocks.0.norm"),
            ("res{stage}.{block}.a", f"{_BLOCK}.branch2.conv_a"),
            ("res{stage}.{block}.a_bn", f"{_BLOCK}.branch2.norm_a"),
            ("res{stage}.{block}.b", f"{_BLOCK}.branch2.conv_b"),
            ("res{stage}.{block}.b_bn", f"{_BLOCK}.branch2.norm_b"),
            ("res{stage}.{block}.c", f"{_BLOCK}.branch2.conv_c"),
            ("res{stage}.{block}.c_bn", f"{_BLOCK}.branch2.norm_c"),
            ("res{stage}.{block}.branch1", f"{_BLOCK}.branch1_conv"),
            ("res{stage}.{block}.branch1_bn", f"{_BLOCK}.branch1_norm"),
            ("head", f"blocks.{head}.proj"),
        ],
        child=child,
    )


WITH_POOL = _names({2: 1, 3: 3, 4: 4, 5: 5}, head=6)
WITHOUT_POOL = _names({2: 1, 3: 2, 4: 3, 5: 4}, head=5)


def recognises(names: Collection[str]) -> bool:
    return "blocks.0.conv.weight" in names and any(".res_blocks." in name for name in names)


def read(state: Mapping[str, Tensor], source: str) -> Foreign:
    """pytorchvideo's tensors -> ours.

    Raises:
        CheckpointError: neither layout of the stages is there.
    """
    stages = {int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.res_blocks\.", name))}
    if stages not in ({1, 3, 4, 5}, {1, 2, 3, 4}):
        raise CheckpointError(
            f"{source}: stages at blocks {sorted(stages)}; known are 1, 3, 4, 5 and 1, 2, 3, 4 (Slow)"
        )
    pooled = stages == {1, 3, 4, 5}
    tensors, left_out = renamed(state, WITH_POOL if pooled else WITHOUT_POOL, source=source)
    choices: dict[str, tuple[str, ...]] = {"compat": ("pytorchvideo",)}
    if not pooled:
        choices["model.stages.res2.pool"] = ("null",)
    return Foreign("pytorchvideo", tensors, left_out, choices)


FORMAT = Format("pytorchvideo", recognises, read)
