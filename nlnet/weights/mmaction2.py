"""MMAction2's checkpoints of C2D, I3D, I3D with non-local blocks, and SlowOnly, there and back.

Names as in MMAction2's ``models/backbones`` (``resnet3d.py``, ``c2d.py``) and MMCV's ``cnn/bricks/non_local.py``. C2D
there is a 2-D network: its kernels are [out, in, H, W]. A block that pools its keys holds φ and g inside a sequence,
hence ``phi.0`` and ``g.0``; W_z has no bias.
"""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from nlnet.errors import CheckpointError
from nlnet.weights.architecture import Architecture, read_architecture
from nlnet.weights.blocks import fold_out_bias, identity_norms
from nlnet.weights.foreign import Exported, Foreign, Format, renamed
from nlnet.weights.names import Names, in_their_shape

_BLOCK = "backbone.layer{child}.{block}"
_NON_LOCAL = f"{_BLOCK}.non_local_block"


def _names(*, pooled: Sequence[str]) -> Names:
    """The table, with the names of φ and g (``phi.0`` and ``phi``, say) in the order in which they are tried."""
    return Names(
        [
            ("stem.conv", "backbone.conv1.conv"),
            ("stem.bn", "backbone.conv1.bn"),
            ("res{stage}.{block}.a", f"{_BLOCK}.conv1.conv"),
            ("res{stage}.{block}.a_bn", f"{_BLOCK}.conv1.bn"),
            ("res{stage}.{block}.b", f"{_BLOCK}.conv2.conv"),
            ("res{stage}.{block}.b_bn", f"{_BLOCK}.conv2.bn"),
            ("res{stage}.{block}.c", f"{_BLOCK}.conv3.conv"),
            ("res{stage}.{block}.c_bn", f"{_BLOCK}.conv3.bn"),
            ("res{stage}.{block}.branch1", f"{_BLOCK}.downsample.conv"),
            ("res{stage}.{block}.branch1_bn", f"{_BLOCK}.downsample.bn"),
            ("res{stage}.nl{block}.pairwise.theta", f"{_NON_LOCAL}.theta.conv"),
            *(("res{stage}.nl{block}.pairwise.phi", f"{_NON_LOCAL}.phi{inner}.conv") for inner in pooled),
            *(("res{stage}.nl{block}.g", f"{_NON_LOCAL}.g{inner}.conv") for inner in pooled),
            ("res{stage}.nl{block}.out", f"{_NON_LOCAL}.conv_out.conv"),
            ("res{stage}.nl{block}.bn", f"{_NON_LOCAL}.conv_out.bn"),
            ("head", "cls_head.fc_cls"),
        ],
        child={2: 1, 3: 2, 4: 3, 5: 4},
        tensors=[("res{stage}.nl{block}.pairwise.w_f", f"{_NON_LOCAL}.concat_project.conv.weight")],
    )


POOLED, UNPOOLED = _names(pooled=[".0", ""]), _names(pooled=["", ".0"])


def recognises(names: Collection[str]) -> bool:
    return "backbone.conv1.conv.weight" in names


def read(state: Mapping[str, Tensor], source: str) -> Foreign:
    """MMAction2's tensors -> ours. What the configs there hold beside the weights is asked: form and scale of blocks.

    Raises:
        CheckpointError: a network that shifts channels over time (TSM), or one of two pathways.
    """
    if shifted := [name for name in state if ".conv1.conv.net." in name or ".block.conv1." in name]:
        raise CheckpointError(
            f"{source}: {shifted[0]} is of a network that shifts channels over time (TSM); nlnet has none"
        )
    tensors, left_out = renamed(state, POOLED, source=source)
    architecture = read_architecture(tensors, source=source)
    choices: dict[str, tuple[str, ...]] = {"compat": ("mmaction2_c2d" if _is_flat(tensors) else "mmaction2",)}
    choices |= _strides(architecture, flat=_is_flat(tensors))
    if (kind := architecture.non_local) is not None:
        options = {
            "embedded": ("embedded_gaussian", "dot_product"),  # mode
            "gaussian": ("gaussian",),
            "concatenation": ("concatenation",),
        }
        choices["model/non_local"] = options[kind.pairwise]
        if kind.pairwise == "embedded":
            choices["compat.softmax_scale"] = ("false", "true")  # use_scale
        pooled = any(".non_local_block.g.0." in name for name in state)
        choices["model.non_local.subsample"] = ("last" if pooled else "none",)
    return Foreign("MMAction2", tensors, left_out, choices)


def _is_flat(tensors: Mapping[str, Tensor]) -> bool:
    return tensors["stem.conv.weight"].dim() == 4


def _strides(architecture: Architecture, *, flat: bool) -> dict[str, tuple[str, ...]]:
    """What the inflated blocks say of the strides, for the networks that MMAction2 publishes files of.

    SlowOnly (kernels over time in the later stages alone) and I3D "heavy" (in every block) keep all frames up to
    pool2, which SlowOnly has not.
    """
    kernels = [kernel for kernels in architecture.temporal_kernels.values() for kernel in kernels]
    if flat or not (architecture.is_slow or min(kernels) > 1):
        return {}
    kept: dict[str, tuple[str, ...]] = {"model.stem.stride": ("[1,2,2]",), "model.stem.pool_stride": ("[1,2,2]",)}
    return kept | ({"model.stages.res2.pool": ("null",)} if architecture.is_slow else {})


def export(state: Mapping[str, Tensor], *, subsample: bool, groups: int, scaled: bool) -> Exported:
    """Our state dict -> a checkpoint of MMAction2.

    W_z's bias is folded into the batch norm behind it; everything else stays as it is, bit for bit. A network of 2-D
    kernels without non-local blocks is written as its 2-D C2D. ``scaled`` is in the config there (use_scale).

    Raises:
        CheckpointError: a bias that cannot be folded, or what has no place there: a tensor, groups of frames.
    """
    if groups > 1:
        raise CheckpointError("MMAction2 has no groups of frames; this network's non-local blocks attend within groups")
    architecture = read_architecture(state, source="this network")
    state, folded = fold_out_bias(state)
    state, added = identity_norms(state)
    kernels = [kernel for kernels in architecture.temporal_kernels.values() for kernel in kernels]
    flat = max(kernels) == 1 and architecture.non_local is None
    exported = {}
    for name, tensor in state.items():
        theirs = (POOLED if subsample else UNPOOLED).theirs(name)
        if theirs is None:
            raise CheckpointError(f"MMAction2 has no place for {name}")
        exported[theirs] = tensor[:, :, 0] if flat and tensor.dim() == 5 else in_their_shape(name, tensor)
    return Exported({"meta": {}, "state_dict": exported}, [*folded, *added])


FORMAT = Format("mmaction2", recognises, read, export, presets=("mmaction2", "mmaction2_c2d"))
