"""Caffe2 pickles: the authors' models (``video-nonlocal-net``) and SlowFast's zoo of C2D, I3D and I3D-NLN, into ours.

Names as in ``video-nonlocal-net/lib/models`` (``resnet_video.py``, ``resnet_helper.py``, ``nonlocal_helper.py``).
``riv`` is the running variance. The models for long clips have affine layers in the place of batch norm (``_s`` and
``_b`` alone) and none in their non-local blocks.
"""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from nlnet.weights.architecture import read_architecture
from nlnet.weights.blocks import identity_statistics
from nlnet.weights.foreign import Foreign, Format, renamed
from nlnet.weights.names import Names

NAMES = Names(
    [
        ("stem.conv", "conv1"),
        ("stem.bn", "res_conv1_bn"),
        ("res{stage}.{block}.a", "res{stage}_{block}_branch2a"),
        ("res{stage}.{block}.a_bn", "res{stage}_{block}_branch2a_bn"),
        ("res{stage}.{block}.b", "res{stage}_{block}_branch2b"),
        ("res{stage}.{block}.b_bn", "res{stage}_{block}_branch2b_bn"),
        ("res{stage}.{block}.c", "res{stage}_{block}_branch2c"),
        ("res{stage}.{block}.c_bn", "res{stage}_{block}_branch2c_bn"),
        ("res{stage}.{block}.branch1", "res{stage}_{block}_branch1"),
        ("res{stage}.{block}.branch1_bn", "res{stage}_{block}_branch1_bn"),
        ("res{stage}.nl{block}.pairwise.theta", "nonlocal_conv{stage}_{block}_theta"),
        ("res{stage}.nl{block}.pairwise.phi", "nonlocal_conv{stage}_{block}_phi"),
        ("res{stage}.nl{block}.g", "nonlocal_conv{stage}_{block}_g"),
        ("res{stage}.nl{block}.out", "nonlocal_conv{stage}_{block}_out"),
        ("res{stage}.nl{block}.bn", "nonlocal_conv{stage}_{block}_bn"),
        ("head", "pred"),
    ],
    separator="_",
    fields={"weight": "w", "bias": "b"},
    norm_fields={"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"},
)
_LICENCE = "the authors' weights are under CC-BY-NC 4.0: not for commercial use"
_AFFINE = (
    "affine layers in the place of batch norm: running means 0, variances 1 - 1e-5; they hold in evaluation, and in "
    "training where the statistics stay frozen"
)


def recognises(names: Collection[str]) -> bool:
    return "conv1_w" in names and "res_conv1_bn_s" in names


def read(state: Mapping[str, Tensor], source: str) -> Foreign:
    """Caffe2's blobs -> our tensors. The solver's blobs (momentum, learning rate, iteration) are left out.

    The file does not say whose network it is: the strides for 8 frames, those for 32, or SlowFast's padded ones.
    """
    tensors, left_out = renamed(state, NAMES, source=source)
    solver = re.compile(r".*_momentum|model_iter|lr|epoch|cur_.*")
    left_out = {name: "of the solver" if solver.fullmatch(name) else why for name, why in left_out.items()}
    affine = [name for name in tensors if name.endswith("bn.weight") and _mean_of(name) not in tensors]
    for name in affine:
        norm = name.removesuffix("weight")
        tensors |= {norm + key: value for key, value in identity_statistics(len(tensors[name])).items()}
    # Classifiers of convolution are [K, C, 1, 1, 1], those for images [1, 1000]-shaped biases: one axis is ours.
    if "head.bias" in tensors:
        tensors["head.bias"] = tensors["head.bias"].flatten()
    architecture = read_architecture(tensors, source=source)
    choices: dict[str, tuple[str, ...]] = {"compat": ("authors", "authors_32f", "slowfast")}
    if architecture.is_slow:  # the authors have none
        choices = {"compat": ("slowfast",), "model.stages.res2.pool": ("null",)}
    if architecture.non_local is not None:
        choices["model/non_local"] = ("embedded_gaussian",)  # the only form with published files, in both projects
        if affine:  # the long clips: res3 attends within groups of 4 of its 16 frames (add_nonlocal_group)
            choices["data/clip"] = ("32x4", "128x1")
            choices["model.stages.res3.non_local_groups"] = ("4",)
    notes = [_LICENCE, _AFFINE] if affine else [_LICENCE]
    return Foreign(
        "Caffe2", {name: tensor.to(torch.float32) for name, tensor in tensors.items()}, left_out, choices, notes
    )


def _mean_of(name: str) -> str:
    return name.removesuffix("weight") + "running_mean"


FORMAT = Format("caffe2", recognises, read)
