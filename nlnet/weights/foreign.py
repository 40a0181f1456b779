"""Weights of other projects: which format a file is in, its tensors in our names, and what the format leaves open."""

import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nlnet import weights as room
from nlnet.errors import CheckpointError
from nlnet.weights.files import is_torch_file, read_arrays, read_plain
from nlnet.weights.names import Names, in_our_shape

# PyTorch checkpoints keep the tensors under one of these keys, or are a state dict themselves.
_CONTAINERS = ("model_state", "state_dict", "model_state_dict")


@dataclass(frozen=True)
class Foreign:
    """A network of another project in our names.

    Attributes:
        origin: the format, for people.
        tensors: our names -> tensors in our shapes.
        left_out: their names -> why they are no weights of the network.
        choices: config key -> the options that the file can mean. A single one follows from the format; several are
            the user's to tell apart, because no tensor says it.
        notes: what else a user must know, such as a licence.
    """

    origin: str
    tensors: Mapping[str, Tensor]
    left_out: Mapping[str, str]
    choices: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Exported:
    """A network in the names and shapes of another project, as its checkpoints hold it, and what to know of it."""

    checkpoint: Mapping[str, Any]
    notes: Sequence[str]


class Export(Protocol):
    """Our state dict -> a checkpoint of theirs.

    What no tensor says of the non-local blocks: whether they pool their keys, in how many groups of frames they attend,
    and whether an embedded Gaussian has the scale D^-0.5.
    """

    def __call__(self, state: Mapping[str, Tensor], *, subsample: bool, groups: int, scaled: bool) -> Exported: ...


@dataclass(frozen=True)
class Format:
    """A format of another project: one file of this package has one, as its ``FORMAT``.

    Attributes:
        name: for people and for ``--to-format``.
        recognises: whether these names are of this format.
        read: their tensors -> ours; its second argument names the file, for errors.
        export: the way back, where there is one.
        presets: the compat presets with which a network computes there what it computes here.
    """

    name: str
    recognises: Callable[[Collection[str]], bool]
    read: Callable[[Mapping[str, Tensor], str], Foreign]
    export: Export | None = None
    presets: Sequence[str] = ()


def formats() -> list[Format]:
    """The formats of the files of this package, by name."""
    modules = (import_module(f"{room.__name__}.{found.name}") for found in pkgutil.iter_modules(room.__path__))
    found = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return sorted(found, key=lambda form: form.name)


def read_foreign(path: Path) -> Foreign:
    """The network in a file of another project, without running anything that the file holds.

    Raises:
        CheckpointError: it cannot be read safely, or is in no format that is known.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    state = _state(read_plain(path), path) if is_torch_file(path) else read_arrays(path)
    if all(name.startswith("module.") for name in state):  # saved from a wrapper of several processes
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    for form in formats():
        if form.recognises(state):
            return form.read(state, str(path))
    known = ", ".join(form.name for form in formats())
    raise CheckpointError(
        f"{path}: its names ({', '.join(list(state)[:3]) or 'none'} …) are of no known format; known are {known}"
    )


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and "format" in content and "card" in content:
        raise CheckpointError(f"{path}: a checkpoint of nlnet already; --to-format writes it for another project")
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not state:
        raise CheckpointError(f"{path}: no tensors in it, nor under {', '.join(_CONTAINERS)}")
    return state


def renamed(state: Mapping[str, Tensor], names: Names, *, source: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Their tensors -> (ours by our names, in our shapes; names of the rest -> why they are left out).

    Raises:
        CheckpointError: two tensors have the same name of ours.
    """
    tensors: dict[str, Tensor] = {}
    left_out = {}
    for theirs, tensor in state.items():
        ours = names.ours(theirs)
        if ours is None:
            left_out[theirs] = "not a weight of such a network"
        elif ours in tensors:
            raise CheckpointError(f"{source}: {theirs} is there a second time under another name")
        else:
            tensors[ours] = in_our_shape(ours, tensor)
    return tensors, left_out


def with_zero_bias(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W_z's bias as zeros where the network has one and the file has not: the same function."""
    missing = [name for name in wanted if name.endswith(".out.bias") and name not in tensors]
    return {**tensors, **{name: torch.zeros_like(wanted[name]) for name in missing}}
