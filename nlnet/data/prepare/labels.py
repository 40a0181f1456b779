"""From the labels that a source writes to numbers."""

from collections.abc import Sequence

from nlnet.data.annotations import Label
from nlnet.data.annotations.text import number_of
from nlnet.errors import DataError


class Numbers:
    """Written labels -> class numbers, and the names of the classes.

    Args:
        written: the labels that occur, such as those of ``Ledger.labels``.
        classes: their names in the order of their numbers. None takes whole numbers as they are, and other labels in
            alphabetical order, which is how class folders are numbered.
        source: where the labels are from, for errors.
    """

    def __init__(self, written: Sequence[str], *, classes: Sequence[str] | None, source: str) -> None:
        self.source = source
        parts = sorted({part for label in written for part in _parts(label)})
        numbered = all(part.isdecimal() for part in parts)
        if classes is None:
            if "" in written:
                raise DataError(f"{source}: videos without a label or class folder; name them in a list with labels")
            # Whole numbers name no classes: as many as the highest says.
            classes = [f"class_{number}" for number in range(max(map(int, parts)) + 1)] if numbered else parts
        self.classes = tuple(classes)
        self._numbers = {name: number for number, name in enumerate(self.classes)}
        for part in parts:
            if part:
                self._number(part)

    def __call__(self, written: str) -> Label:
        """``3`` -> 3, ``walk`` -> its number, ``3,17`` -> (3, 17), nothing -> ()."""
        if not written:
            return ()
        parts = _parts(written)
        if written in self._numbers or len(parts) == 1:
            return self._number(written)
        return tuple(sorted({self._number(part) for part in parts}))

    def _number(self, part: str) -> int:
        if part not in self._numbers and part.isdecimal():
            if int(part) >= len(self.classes):
                raise DataError(f"{self.source}: label {part}, but there are {len(self.classes)} classes from 0 on")
            return int(part)
        return number_of(self.source, part, self._numbers)


def _parts(label: str) -> list[str]:
    """``3,17`` or ``3 17`` -> its parts; a name is one, whatever is in it."""
    parts = label.replace(",", " ").split()
    return parts if all(part.isdecimal() for part in parts) else [label]
