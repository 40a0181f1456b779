"""Putting weights into a model that need not match them in every name, and saying what happened."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Transfer:
    """What was loaded, what stayed as the model initialised it, and what of the source was left out, with reasons."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left_out: Mapping[str, str]

    def lines(self) -> list[str]:
        """A short account for people: counts, and the names of what differs, grouped by module."""
        lines = [f"loaded {len(self.loaded)} tensors"]
        if self.new:
            lines.append(f"newly initialised: {', '.join(_modules(self.new))}")
        if self.left_out:
            reasons = {f"{name.rpartition('.')[0] or name} ({why})": None for name, why in self.left_out.items()}
            lines.append(f"left out: {', '.join(reasons)}")
        return lines


def transfer(model: nn.Module, source: Mapping[str, Tensor]) -> Transfer:
    """Copies every tensor of ``source`` whose name and shape the model has; the model keeps its own for the rest."""
    own = model.state_dict()
    left_out = {}
    fitting = {}
    for name, tensor in source.items():
        if name not in own:
            left_out[name] = "not in this network"
        elif own[name].shape != tensor.shape:
            left_out[name] = f"{list(tensor.shape)} here {list(own[name].shape)}"
        else:
            fitting[name] = tensor
    model.load_state_dict(fitting, strict=False)
    # Batch counters are of no use to anyone and missing in many files.
    new = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    return Transfer(tuple(fitting), tuple(new), left_out)


def _modules(names: tuple[str, ...]) -> list[str]:
    """Names of tensors -> the modules that hold them, each once, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
