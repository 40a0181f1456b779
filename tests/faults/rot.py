"""Damage to checkpoint files: flipped bits, cut-off ends, holes of zeros, changed headers. All of it is noticed."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint
from nlnet.errors import CheckpointError
from tests.faults.processes import Case


def state(step: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(step)
    weights = {f"layer{k}.weight": torch.randn(40, 50, generator=generator) for k in range(8)}
    return {"step": step, "model": weights, "card": {"classes": ["a", "b"], "identity": "x" * 40}}


def damages(content: bytes, *, each: int, headers: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``each`` flips, truncations and zeroed blocks, and ``headers`` changes of what is around the data."""
    random_ = random.Random(seed)
    for _ in range(each):
        place, bit = random_.randrange(len(content)), random_.randrange(8)
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(damaged)
    for number in range(each):
        end = len(content) - 1 - number if number < each // 4 else random_.randrange(len(content))
        yield f"cut off after {end} bytes", content[:end]
    for _ in range(each):
        damaged = bytearray(content)
        while damaged == content:  # a block of zeros stays one
            size = random_.choice([1, 16, 512, 4096])
            place = random_.randrange(max(1, len(content) - size))
            damaged[place : place + size] = bytes(size)
        yield f"{size} bytes from {place} zeroed", bytes(damaged)
    # Local headers, the central directory, its end, and the comment behind it with the digest.
    central = content.index(b"PK\x01\x02")
    places = [*range(64), *range(central, len(content))]
    for _ in range(headers):
        place = random_.choice(places)
        damaged = bytearray(content)
        damaged[place] = (damaged[place] + random_.randrange(1, 256)) % 256
        yield f"byte {place} of the headers changed", bytes(damaged)


def run_all(home: Path, *, each: int = 200, headers: int = 50) -> list[Case]:
    """Each damaged file is refused by name, even alone; in its run folder the one before it is taken, and said."""
    said: list[str] = []
    folder = CheckpointFolder(home / "checkpoints", keep=2, say=said.append)
    folder.save(1, state(1))
    newest = folder.save(2, state(2))
    alone = home / "alone.pt"
    shutil.copyfile(newest, alone)
    assert load_checkpoint(alone)["step"] == 2
    content = newest.read_bytes()
    cases: list[Case] = []
    for name, damaged in damages(content, each=each, headers=headers):
        said.clear()
        alone.write_bytes(damaged)
        newest.write_bytes(damaged)
        try:
            load_checkpoint(alone)
            cases.append((name, False, "loaded without a word"))
            continue
        except CheckpointError as error:
            named = str(alone) in str(error) and "\n" not in str(error)
        found = folder.newest()
        fell_back = found is not None and found[1]["step"] == 1 and any(str(newest) in line for line in said)
        cases.append((name, named and fell_back, "" if named and fell_back else f"{found and found[0]}, said {said}"))
    return cases
