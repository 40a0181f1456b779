"""What the tests of import and export share: files of other projects, and the comparison of logits."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlnet.config.convert import Imported
from tests.weights.restated import FIVE, I3D, Layout, Plan, Rules, forward

C2D_PLAN, I3D_PLAN = Plan(), Plan(conv1=5, kernels=I3D)
SLOW_PLAN = Plan(kernels=((1,), (1, 1), (3,) * 11, (3,)))
NL = {"conv1": 5, "kernels": I3D, "non_local": FIVE}


def write_caffe2(state: Mapping[str, Tensor], path: Path, *, protocol: int = 2, nested: bool = True) -> Path:
    blobs: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    blobs |= {"conv1_w_momentum": blobs["conv1_w"], "model_iter": 400000, "lr": blobs["pred_b"][0]}
    path.write_bytes(pickle.dumps({"blobs": blobs} if nested else blobs, protocol=protocol))
    return path


def write_torch(container: str) -> Callable[[Mapping[str, Tensor], Path], Path]:
    def write(state: Mapping[str, Tensor], path: Path) -> Path:
        counters = {
            name.replace("running_mean", "num_batches_tracked"): torch.tensor(5)
            for name in state
            if name.endswith("running_mean")
        }
        torch.save({container: {**state, **counters}, "epoch": 3}, path)
        return path

    return write


def logits_agree(imported: Imported, state: Mapping[str, Tensor], layout: Layout, plan: Plan, rules: Rules) -> None:
    frames = 16 if rules.stride[0] * rules.pool_stride[0] == 1 else 32
    clip = torch.randn(2, 3, frames, 65, 71, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = forward(state, clip, layout=layout, plan=plan, rules=rules)
        actual = imported.model(clip)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def saved(imported: Imported, path: Path) -> Path:
    imported.save(path)
    return path


def same_bits(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    left, right = ({n: t for n, t in side.items() if not n.endswith("num_batches_tracked")} for side in (left, right))
    assert set(left) == set(right)
    for name, tensor in left.items():
        assert tensor.shape == right[name].shape, name
        assert torch.equal(tensor, right[name]), name
