"""The same non-local block written otherwise: W_z without its bias, a block without batch norm with one."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from nlnet.errors import CheckpointError

EPSILON = 1e-5  # of batch norm, in all formats


def identity_statistics(channels: int) -> dict[str, Tensor]:
    """Running statistics with which batch norm leaves its input to its scale and bias: mean 0, variance 1 - ε."""
    return {"running_mean": torch.zeros(channels), "running_var": torch.full((channels,), 1 - EPSILON)}


def identity_norms(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Gives each non-local block without batch norm one that changes nothing, and says for which that was done."""
    changed = dict(state)
    added = [block for block in _blocks(state) if f"{block}.bn.weight" not in state]
    for block in added:
        channels = len(state[f"{block}.out.weight"])
        norm = {"weight": torch.ones(channels), "bias": torch.zeros(channels), **identity_statistics(channels)}
        changed |= {f"{block}.bn.{name}": tensor for name, tensor in norm.items()}
    notes = (
        [f"{', '.join(added)} without batch norm: one that changes nothing in evaluation is written"] if added else []
    )
    return changed, notes


def fold_out_bias(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Moves W_z's bias b of each non-local block into the batch norm behind it, whose running mean becomes mean - b.

    BN(W y + b) with mean m is BN(W y) with mean m - b; says for which blocks that was done.

    Raises:
        CheckpointError: a bias that is not zero, and no batch norm behind it.
    """
    changed = dict(state)
    folded = []
    for block in _blocks(state):
        bias = changed.pop(f"{block}.out.bias", None)
        if bias is None or not bias.any():
            continue
        if f"{block}.bn.running_mean" not in state:
            raise CheckpointError(
                f"{block}: its W_z has a bias that is not zero, the target's has none, and there is no batch norm "
                "behind it to fold the bias into"
            )
        changed[f"{block}.bn.running_mean"] = state[f"{block}.bn.running_mean"] - bias
        folded.append(block)
    return changed, [f"W_z's bias of {', '.join(folded)} folded into the running mean behind it"] if folded else []


def fold_scale(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Multiplies θ by D^0.5: with the scale D^-0.5 the block then computes what it does without; says where.

    D is the number of embedding channels.
    """
    changed = dict(state)
    thetas = [name for name in state if ".pairwise.theta." in name]
    for name in thetas:
        changed[name] = state[name] * len(state[name]) ** 0.5
    blocks = ", ".join(dict.fromkeys(name.partition(".pairwise.")[0] for name in thetas))
    return changed, [f"θ of {blocks} times D^0.5, as the scale D^-0.5 is always there"] if thetas else []


def _blocks(state: Mapping[str, Tensor]) -> list[str]:
    """The non-local blocks: res3.nl1, …"""
    return list(dict.fromkeys(match[1] for name in state if (match := re.match(r"(res\d\.nl\d+)\.", name))))
