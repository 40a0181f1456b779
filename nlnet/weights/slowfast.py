"""SlowFast's checkpoints of one pathway (C2D, I3D, non-local and Slow networks), there and back.

Names as in SlowFast's ``slowfast/models`` (``stem_helper``, ``resnet_helper``, ``nonlocal_helper``, ``head_helper``);
its model zoo of these networks is in Caffe2's format instead, see ``nlnet.weights.caffe2``.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from nlnet.errors import CheckpointError
from nlnet.weights.architecture import read_architecture
from nlnet.weights.blocks import fold_scale, identity_norms
from nlnet.weights.foreign import Exported, Foreign, Format, renamed
from nlnet.weights.names import Names, in_their_shape

NAMES = Names(
    [
        ("stem.conv", "s1.pathway0_stem.conv"),
        ("stem.bn", "s1.pathway0_stem.bn"),
        ("res{stage}.{block}.a", "s{stage}.pathway0_res{block}.branch2.a"),
        ("res{stage}.{block}.a_bn", "s{stage}.pathway0_res{block}.branch2.a_bn"),
        ("res{stage}.{block}.b", "s{stage}.pathway0_res{block}.branch2.b"),
        ("res{stage}.{block}.b_bn", "s{stage}.pathway0_res{block}.branch2.b_bn"),
        ("res{stage}.{block}.c", "s{stage}.pathway0_res{block}.branch2.c"),
        ("res{stage}.{block}.c_bn", "s{stage}.pathway0_res{block}.branch2.c_bn"),
        ("res{stage}.{block}.branch1", "s{stage}.pathway0_res{block}.branch1"),
        ("res{stage}.{block}.branch1_bn", "s{stage}.pathway0_res{block}.branch1_bn"),
        ("res{stage}.nl{block}.pairwise.theta", "s{stage}.pathway0_nonlocal{block}.conv_theta"),
        ("res{stage}.nl{block}.pairwise.phi", "s{stage}.pathway0_nonlocal{block}.conv_phi"),
        ("res{stage}.nl{block}.g", "s{stage}.pathway0_nonlocal{block}.conv_g"),
        ("res{stage}.nl{block}.out", "s{stage}.pathway0_nonlocal{block}.conv_out"),
        ("res{stage}.nl{block}.bn", "s{stage}.pathway0_nonlocal{block}.bn"),
        ("head", "head.projection"),
    ]
)


def recognises(names: Collection[str]) -> bool:
    return "s1.pathway0_stem.conv.weight" in names


def read(state: Mapping[str, Tensor], source: str) -> Foreign:
    """SlowFast's tensors -> ours.

    Raises:
        CheckpointError: a network of two pathways.
    """
    if any("pathway1_" in name for name in state):
        raise CheckpointError(f"{source}: a SlowFast network of two pathways; networks of one pathway can be converted")
    tensors, left_out = renamed(state, NAMES, source=source)
    architecture = read_architecture(tensors, source=source)
    choices: dict[str, tuple[str, ...]] = {"compat": ("slowfast",)}
    if architecture.non_local is not None:
        choices["model/non_local"] = ("embedded_gaussian", "dot_product")  # NONLOCAL.INSTANTIATION
    if architecture.is_slow:
        choices["model.stages.res2.pool"] = ("null",)
    return Foreign("SlowFast", tensors, left_out, choices)


def export(state: Mapping[str, Tensor], *, subsample: bool, groups: int, scaled: bool) -> Exported:
    """Our state dict -> what SlowFast's ``load_checkpoint`` takes.

    SlowFast always scales the softmax: for a network without the scale its inverse is folded into θ. A missing bias of
    W_z is written as zeros. Everything else stays as it is, bit for bit. ``subsample`` and ``groups`` are in SlowFast's
    config (NONLOCAL.POOL and GROUP), not in its names.

    Raises:
        CheckpointError: SlowFast has no such network.
    """
    architecture = read_architecture(state, source="this network")
    if architecture.inflation == "3x3x3":
        raise CheckpointError("SlowFast inflates the 1x1 convolutions only; this network is inflated 3x3x3")
    kind = architecture.non_local
    if kind is not None and kind.pairwise != "embedded":
        raise CheckpointError(
            f"SlowFast has the embedded Gaussian and the dot product; this network's blocks are {kind.pairwise}"
        )
    state, notes = identity_norms(state)
    if not scaled:
        state, folded = fold_scale(state)
        notes += folded
    missing = [name for name in state if name.endswith(".out.weight") and _bias_of(name) not in state]
    state |= {_bias_of(name): torch.zeros(len(state[name])) for name in missing}
    exported = {}
    for name, tensor in state.items():
        theirs = NAMES.theirs(name)
        if theirs is None:
            raise CheckpointError(f"SlowFast has no place for {name}")
        exported[theirs] = in_their_shape(name, tensor)
    return Exported({"model_state": exported}, notes)


def _bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


FORMAT = Format("slowfast", recognises, read, export, presets=("slowfast",))
