"""torchvision's video ResNets, where they map: those of bottlenecks without strides in time.

Names as in torchvision's ``models/video/resnet.py``. Its published r3d_18, mc3_18 and r2plus1d_18 have basic blocks,
which nlnet's networks have not, and are refused.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

from nlnet.errors import CheckpointError
from nlnet.weights.foreign import Foreign, Format, renamed
from nlnet.weights.names import Names

_BLOCK = "layer{child}.{block}"
NAMES = Names(
    [
        ("stem.conv", "stem.0"),
        ("stem.bn", "stem.1"),
        ("res{stage}.{block}.a", f"{_BLOCK}.conv1.0"),
        ("res{stage}.{block}.a_bn", f"{_BLOCK}.conv1.1"),
        ("res{stage}.{block}.b", f"{_BLOCK}.conv2.0"),
        ("res{stage}.{block}.b_bn", f"{_BLOCK}.conv2.1"),
        ("res{stage}.{block}.c", f"{_BLOCK}.conv3.0"),
        ("res{stage}.{block}.c_bn", f"{_BLOCK}.conv3.1"),
        ("res{stage}.{block}.branch1", f"{_BLOCK}.downsample.0"),
        ("res{stage}.{block}.branch1_bn", f"{_BLOCK}.downsample.1"),
        ("head", "fc"),
    ],
    child={2: 1, 3: 2, 4: 3, 5: 4},
)


def recognises(names: Collection[str]) -> bool:
    return "stem.0.weight" in names and any(name.startswith("layer1.0.conv1.0.") for name in names)


def read(state: Mapping[str, Tensor], source: str) -> Foreign:
    """torchvision's video network -> ours. It has no pools at all.

    Raises:
        CheckpointError: blocks, factorised convolutions or strides in time that nlnet's networks have not.
    """
    if "layer1.0.conv3.0.weight" not in state:
        raise CheckpointError(
            f"{source}: a video ResNet of basic blocks, such as r3d_18, mc3_18 and r2plus1d_18; nlnet's networks are "
            "of bottlenecks, so there is nothing to map its tensors to"
        )
    for name, tensor in state.items():
        if ".conv2.0." in name and tensor.dim() == 5 and tensor.shape[2] > 1 and not name.startswith("layer1."):
            raise CheckpointError(
                f"{source}: {name} is 3x3x3, where torchvision strides in time; nlnet's networks do not"
            )
    tensors, left_out = renamed(state, NAMES, source=source)
    if factorised := [name for name in left_out if name.endswith(".weight")]:
        raise CheckpointError(f"{source}: {factorised[0]} is of a factorised convolution; nlnet's networks have none")
    choices = {
        "model.stem.stride": ("[1,2,2]",),
        "model.stem.pool_kernel": ("[1,1,1]",),
        "model.stem.pool_stride": ("[1,1,1]",),
        "model.stem.pool_padding": ("[0,0,0]",),
        "model.stages.res2.pool": ("null",),
        "data.normalize.mean": ("[0.43216,0.394666,0.37645]",),
        "data.normalize.std": ("[0.22803,0.22145,0.216989]",),
    }
    return Foreign("torchvision's video networks", tensors, left_out, choices)


FORMAT = Format("torchvision_video", recognises, read)
