"""What a network costs, without running it: parameters, multiply-adds and memory. Nothing is computed.

Everything is counted on PyTorch's meta device, which has shapes but no numbers. The model itself is untouched.
A clip is (frames, height, width); memory is for one clip in float32.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nlnet.models.non_local import NonLocalBlock

FLOAT32 = 4  # bytes


def parameters(model: nn.Module) -> int:
    """The number of learned parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, clip: Sequence[int]) -> int:
    """Multiply-adds of one forward pass.

    Convolutions and matrix products count; batch norm, activations and pooling do not, as in the paper's table 2e.
    """
    return layer_multiply_adds(model, (1, 3, *clip))


def layer_multiply_adds(layer: nn.Module, shape: Sequence[int]) -> int:
    """The same of any module, for an input of this shape, [B, C, T, H, W]."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _without_numbers(layer, "meta").eval()(torch.empty(*shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def activations(model: nn.Module, clip: Sequence[int]) -> int:
    """Bytes that training keeps for the backward pass: every tensor that autograd saves, each storage once."""
    try:
        return _saved(model, (1, 3, *clip))
    except ValueError:  # batch norm does not train on a single number of each channel, as a last map of 1×1×1 has
        return _saved(model, (2, 3, *clip)) // 2


def _saved(model: nn.Module, clips: Sequence[int]) -> int:
    """The same for a batch [B, 3, T, H, W]."""
    storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[id(storage)] = storage
        return tensor

    # Fake tensors say that they are on the CPU: the meta device would take the attention that builds its matrix.
    with FakeTensorMode(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fake = _without_numbers(model).train()
        fake(torch.empty(*clips).to(memory_format=torch.channels_last_3d))  # as clips come
        weights = [parameter.untyped_storage() for parameter in fake.parameters()]  # and views of them
    for storage in weights:
        storages.pop(id(storage), None)
    return sum(storage.nbytes() for storage in storages.values())


@dataclass(frozen=True)
class Part:
    """A part of a network: its name, output [C, T, H, W], parameters, multiply-adds, and attention matrix in bytes.

    ``attention`` is what the weights f(x_i, x_j) of a non-local block would take as a matrix, which nlnet never builds.
    """

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    attention: int = 0


def parts(model: nn.Module, clip: Sequence[int]) -> list[Part]:
    """The children of a network, each followed by the non-local blocks inside it, which count on their own lines."""
    model = _without_numbers(model, "meta").eval()
    inputs: dict[nn.Module, Tensor] = {}
    outputs: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        inputs[module], outputs[module] = given[0], output

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, *clip, device="meta"))
    for hook in hooks:
        hook.remove()
    # Keys are Class.child.grandchild; each counts what is inside it.
    counts = {key.partition(".")[2]: sum(flops.values()) // 2 for key, flops in counter.get_flop_counts().items()}
    found = []
    for child_name, child in model.named_children():
        if child not in outputs or not parameters(child):
            continue
        blocks = [
            Part(
                name,
                tuple(outputs[module].shape[1:]),
                parameters(module),
                counts[name],
                module.attention(inputs[module]).numel() * FLOAT32,
            )
            for name, module in model.named_modules()
            if isinstance(module, NonLocalBlock) and f"{name}.".startswith(f"{child_name}.")
        ]
        found.append(
            Part(
                child_name,
                tuple(outputs[child].shape[1:]),
                parameters(child) - sum(block.parameters for block in blocks),
                counts.get(child_name, 0) - sum(block.multiply_adds for block in blocks),
            )
        )
        found += blocks
    return found


@dataclass(frozen=True)
class Total:
    """What one clip costs: see the functions of these names; ``attention`` sums over the blocks."""

    clip: tuple[int, ...]
    parameters: int
    multiply_adds: int
    attention: int
    activations: int

    def record(self) -> dict[str, Any]:
        """As plain data, for costs.json; memory in bytes."""
        return {
            "clip": list(self.clip),
            "params": self.parameters,
            "macs": self.multiply_adds,
            "attention": self.attention,
            "activations": self.activations,
        }

    def line(self) -> str:
        """In words, for people."""
        blocks = f"attention matrices of {self.attention / 2**20:.1f} MiB, never built · " if self.attention else ""
        return (
            f"{self.parameters / 1e6:.3f} M parameters · a clip of {'×'.join(map(str, self.clip))} in float32: "
            f"{self.multiply_adds / 1e9:.3f} G multiply-adds · {blocks}{self.activations / 2**20:.0f} MiB of "
            "activations kept for the backward pass"
        )


def total(model: nn.Module, clip: Sequence[int]) -> Total:
    """All of it."""
    attention = sum(part.attention for part in parts(model, clip))
    return Total(tuple(clip), parameters(model), multiply_adds(model, clip), attention, activations(model, clip))


def _without_numbers(model: nn.Module, device: str | None = None) -> nn.Module:
    """A copy of the model with empty tensors of the same shapes: deepcopy takes what the memo holds for each tensor."""

    def empty(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    memo: dict[int, Any] = {id(buffer): empty(buffer) for buffer in model.buffers()}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(empty(parameter), requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, memo)
