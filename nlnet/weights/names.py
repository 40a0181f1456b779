"""Two-way tables of names: how another project calls the modules of our networks, and the shapes it stores them in."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

_PYTORCH_FIELDS = {name: name for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
_STAGES = (2, 3, 4, 5)


class Names:
    """Our names of tensors <-> those of another project.

    Args:
        modules: our module -> theirs, with ``{stage}`` (2 … 5) and ``{block}`` in both; ``{child}`` is their number
            of the stage. Where several rows have the same module of ours, the first is the one to write.
        child: stage -> their number of it.
        tensors: the same for whole names of tensors, for those that are no module of ours.
        separator, fields, norm_fields: how a tensor of a module is called: PyTorch's way by default.
    """

    def __init__(
        self,
        modules: Sequence[tuple[str, str]],
        *,
        child: Mapping[int, int] | None = None,
        tensors: Sequence[tuple[str, str]] = (),
        separator: str = ".",
        fields: Mapping[str, str] = _PYTORCH_FIELDS,
        norm_fields: Mapping[str, str] = _PYTORCH_FIELDS,
    ) -> None:
        self._rows: list[tuple[str, str]] = []
        for stage in _STAGES:
            numbers = {"stage": stage, "child": (child or {}).get(stage, stage), "block": "{block}"}
            for ours, theirs in modules:
                for field, their_field in (norm_fields if ours.endswith("bn") else fields).items():
                    self._add(f"{ours}.{field}", f"{theirs}{separator}{their_field}", numbers)
            for ours, theirs in tensors:
                self._add(ours, theirs, numbers)
        self._to_ours = [(_pattern(theirs), ours) for ours, theirs in self._rows]
        self._to_theirs = [(_pattern(ours), theirs) for ours, theirs in self._rows]

    def ours(self, name: str) -> str | None:
        """Their name -> ours; None for what is no tensor of such a network."""
        return _translate(name, self._to_ours)

    def theirs(self, name: str) -> str | None:
        """Our name -> theirs; None where they have no place for it."""
        return _translate(name, self._to_theirs)

    def _add(self, ours: str, theirs: str, numbers: Mapping[str, object]) -> None:
        row = ours.format_map(numbers), theirs.format_map(numbers)
        if row not in self._rows:  # the stem and the head are in no stage
            self._rows.append(row)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{block\}", r"(\d+)"))


def _translate(name: str, rows: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in rows:
        if match := pattern.fullmatch(name):
            return template.format(block=match[1]) if match.groups() else template
    return None


def in_our_shape(name: str, tensor: Tensor) -> Tensor:
    """The tensor of this name of ours, in our shape: matrices where others store 1×1×1 convolutions.

    Θ, φ, g, W_z and the classifier: [out, in, 1, 1, 1] -> [out, in]; w_f: [1, 2D, 1, 1] -> [2D]. All else is kept.
    """
    if name.endswith(".w_f"):
        return tensor.flatten()
    return tensor.flatten(1) if _is_matrix(name) and tensor.dim() > 2 else tensor


def in_their_shape(name: str, tensor: Tensor) -> Tensor:
    """The inverse of ``in_our_shape`` for the non-local block: matrices become 1×1×1 convolutions, w_f a 1×1 one."""
    if name.endswith(".w_f"):
        return tensor[None, :, None, None]
    return tensor[:, :, None, None, None] if _is_matrix(name) and ".nl" in name else tensor


def _is_matrix(name: str) -> bool:
    return name == "head.weight" or bool(
        re.fullmatch(r"res\d\.nl\d+\.(pairwise\.theta|pairwise\.phi|g|out)\.weight", name)
    )
