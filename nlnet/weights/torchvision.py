"""torchvision's ImageNet ResNets, renamed and inflated (paper, section 4.1: networks start from ImageNet weights)."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor, nn

from nlnet.errors import CheckpointError, ConfigError
from nlnet.models.inflate import inflate_to
from nlnet.weights.files import read_plain
from nlnet.weights.foreign import Foreign, Format
from nlnet.weights.transfer import Transfer, transfer

_RENAMES = (
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.bn."),
    (r"^fc\.", "head."),
    (r"\.downsample\.0\.", ".branch1."),
    (r"\.downsample\.1\.", ".branch1_bn."),
    (r"\.conv1\.", ".a."),
    (r"\.bn1\.", ".a_bn."),
    (r"\.conv2\.", ".b."),
    (r"\.bn2\.", ".b_bn."),
    (r"\.conv3\.", ".c."),
    (r"\.bn3\.", ".c_bn."),
)


def our_name(name: str) -> str:
    """torchvision's name of a ResNet tensor -> ours: ``layer1.0.conv2.weight`` -> ``res2.0.b.weight``."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)


def imagenet(model: nn.Module, *, weights: str) -> Transfer:
    """Fills a video network with the inflated weights of a 2-D ResNet; the classifier stays new.

    Args:
        model: a ``VideoResNet`` of depth 50, 101 or 152.
        weights: a file of a torchvision state dict, or one of torchvision's names such as
            ``ResNet50_Weights.IMAGENET1K_V1``, downloaded once into the hub's cache.

    Raises:
        ConfigError: torchvision has no weights of that name.
        CheckpointError: the file cannot be read or downloaded, or is no ResNet of this depth.
    """
    source = {our_name(name): tensor for name, tensor in _read(weights).items() if not name.startswith("fc.")}
    own = model.state_dict()
    blocks_of_source, blocks_of_model = _blocks(source), _blocks(own)
    if blocks_of_source != blocks_of_model:
        raise CheckpointError(
            f"{weights}: its residual blocks are not this network's (depth or widths differ); model.init.weights must "
            "name a torchvision ResNet of the same depth, or take model/init=scratch"
        )
    return transfer(model, inflate_to(source, own))


def _read(weights: str) -> Mapping[str, Tensor]:
    if Path(weights).is_file():
        state = read_plain(Path(weights))
        if not isinstance(state, dict) or "conv1.weight" not in state:
            raise CheckpointError(f"{weights}: not the state dict of a torchvision ResNet (no conv1.weight)")
        if other := [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]:
            raise CheckpointError(f"{weights}: not the state dict of a torchvision ResNet ({other[0]} is no tensor)")
        return state
    from torchvision.models import get_weight

    try:
        enum = get_weight(weights)
    except (ValueError, KeyError, TypeError) as error:  # no such enumeration, no such member, a module in its place
        raise ConfigError(
            f"model.init.weights={weights}: neither a file nor a name of torchvision ({error}); for example "
            "ResNet50_Weights.IMAGENET1K_V1"
        ) from error
    try:
        state_dict: Mapping[str, Tensor] = enum.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the digest is not the one in the name
        raise CheckpointError(
            f"{weights} cannot be downloaded ({error}); give a local file with model.init.weights=PATH, or train from "
            "scratch with model/init=scratch"
        ) from error
    return state_dict


def _blocks(names: Mapping[str, Tensor]) -> dict[str, int]:
    """The 3×3 convolutions of the residual blocks and their channels: what makes two ResNets the same."""
    return {name: len(tensor) for name, tensor in names.items() if name.endswith(".b.weight")}


def recognises(names: Collection[str]) -> bool:
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


def read(state: Mapping[str, Tensor], source: str) -> Foreign:
    """torchvision's ResNet for images -> C2D, with its padded pool1, its normalisation and its classifier.

    Raises:
        CheckpointError: a network of basic blocks (depth 18 or 34), which has no counterpart.
    """
    if "layer1.0.conv3.weight" not in state:
        raise CheckpointError(
            f"{source}: a ResNet of basic blocks (18 or 34 layers); nlnet's networks are of bottlenecks"
        )
    choices = {
        "model/strides": ("padded_8",),
        "data.normalize.mean": ("[0.485,0.456,0.406]",),
        "data.normalize.std": ("[0.229,0.224,0.225]",),
    }
    notes = ["a network for images becomes C2D; to inflate it into I3D, train with model.init.weights=FILE"]
    return Foreign("torchvision", {our_name(name): tensor for name, tensor in state.items()}, {}, choices, notes)


FORMAT = Format("torchvision", recognises, read)
