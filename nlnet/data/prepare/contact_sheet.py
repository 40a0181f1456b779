"""``nlnet data contact-sheet``: which clips to show of each class, and their frames."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nlnet.data.decoders import Frames
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.prepare.ledger import Ledger
from nlnet.data.prepare.sources import Sources
from nlnet.errors import ConfigError, VideoError


class Shown(NamedTuple):
    """A video on a contact sheet."""

    label: str
    name: str
    frames: Frames  # uint8 [T, H, W, 3]; one black frame where it cannot be read
    reason: str  # why not, or ""


def shown_clips(sources: Sources, out: Path, *, per_class: int, frames: int = 8, seed: int = 0) -> Iterator[Shown]:
    """``per_class`` videos of each class, classes in order of name, each with frames spread evenly over it."""
    if per_class < 1:
        raise ConfigError(f"--per-class must be at least 1, not {per_class}")
    with Ledger(out, verb="contact-sheet", settings={"seed": seed}) as ledger:
        ledger.fill(
            sources, place=lambda each: each.label + "\0" + hashlib.sha256(f"{seed}/{each.name}".encode()).hexdigest()
        )
        label, taken = None, 0
        for row in ledger.rows():
            taken = taken + 1 if row.label == label else 1
            label = row.label
            if taken <= per_class:
                yield _shown(row.label, row.name, sources.path_of(row.name), frames)
    ledger.path.unlink()


def _shown(label: str, name: str, path: str, frames: int) -> Shown:
    try:
        with PyAVDecoder().open(path) as reader:
            indices = np.linspace(0, reader.info.num_frames - 1, frames).round().astype(int).tolist()
            return Shown(label, name, reader.frames(indices), "")
    except VideoError as error:
        return Shown(label, name, np.zeros((1, 72, 96, 3), np.uint8), error.reason)
