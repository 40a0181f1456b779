"""W_z's bias moves into the batch norm, and a batch norm that changes nothing changes nothing."""

import pytest
import torch
from torch import Tensor

from nlnet.errors import CheckpointError
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.weights.blocks import fold_out_bias, identity_norms


def block_state(*, norm: bool = True, bias: float = 1.0) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = NonLocalBlock(6, output=Output(norm=norm)).state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = torch.rand_like(tensor) + 0.1
    state["out.bias"] *= bias
    return {f"res3.nl1.{name}": tensor for name, tensor in state.items()}


def run(state: dict[str, Tensor], *, bias: bool, x: Tensor) -> Tensor:
    block = NonLocalBlock(6, output=Output(bias=bias)).eval()
    block.load_state_dict({name.removeprefix("res3.nl1."): tensor for name, tensor in state.items()}, strict=False)
    with torch.no_grad():
        output: Tensor = block(x)
    return output


def test_folding_keeps_the_function_and_the_source() -> None:
    state, x = block_state(), torch.randn(2, 6, 3, 4, 4)
    before = {name: tensor.clone() for name, tensor in state.items()}
    folded, notes = fold_out_bias(state)
    assert "res3.nl1.out.bias" not in folded
    assert notes == ["W_z's bias of res3.nl1 folded into the running mean behind it"]
    expected = run(state, bias=True, x=x)
    torch.testing.assert_close(run(folded, bias=False, x=x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(run(state, bias=False, x=x), expected, atol=1e-3)  # the bias matters
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_a_zero_bias_is_dropped_to_the_bit() -> None:
    state = block_state(bias=0.0)
    folded, notes = fold_out_bias(state)
    assert not notes
    assert all(torch.equal(state[name], tensor) for name, tensor in folded.items())
    assert set(state) - set(folded) == {"res3.nl1.out.bias"}


def test_without_a_norm_only_a_zero_bias_can_go() -> None:
    with pytest.raises(CheckpointError, match=r"res3\.nl1: its W_z has a bias that is not zero"):
        fold_out_bias(block_state(norm=False))
    folded, _ = fold_out_bias(block_state(norm=False, bias=0.0))
    assert "res3.nl1.out.bias" not in folded


def test_the_identity_norm_changes_nothing() -> None:
    state, x = block_state(norm=False), torch.randn(2, 6, 3, 4, 4)
    block = NonLocalBlock(6, output=Output(norm=False)).eval()
    block.load_state_dict({name.removeprefix("res3.nl1."): tensor for name, tensor in state.items()})
    with torch.no_grad():
        expected = block(x)
    normed, notes = identity_norms(state)
    assert notes == ["res3.nl1 without batch norm: one that changes nothing in evaluation is written"]
    torch.testing.assert_close(run(normed, bias=True, x=x), expected, rtol=1e-6, atol=1e-6)
    assert identity_norms(block_state())[1] == []
