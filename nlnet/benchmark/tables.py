"""The tables of docs/performance.md in one run, or some of its parts: comparisons with the textbook, and memory."""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from nlnet.benchmark import block, memory, model
from nlnet.benchmark.block import FORMS, Place, Whose, baseline
from nlnet.benchmark.networks import Network, device_of, positive
from nlnet.benchmark.reports import Report
from nlnet.report.tables import Cell, Column, Table

Records = list[dict[str, Any]]
Cells = list[tuple[str, Place, Whose | None]]  # form, place, baseline (None for the usual one)
Thing = TypeVar("Thing")
Part = Callable[[torch.device, int], tuple[str, Table, Records]]

NETWORKS = {
    "C2D": ("model=c2d_r50",),
    "I3D": ("model=i3d_r50",),
    "I3D, 5 blocks": ("model=i3d_r50", "model/placement=five"),
}
TEN_LONG = ("model=i3d_r50", "model/placement=ten")
UNPOOLED_LONG = ("model=i3d_r50", "model/placement=five", "model.non_local.subsample=none")
# Overrides, frames, clips, precision; the last ones must train in 24 GB.
MEMORY: list[tuple[tuple[str, ...], int, int, Any]] = [
    (("model=c2d_r50",), 8, 4, "fp32"),
    (("model=c2d_r50",), 8, 4, "bf16"),
    (("model=c2d_r50", "trainer.recompute=[res2,res3]"), 8, 4, "fp32"),
    (("model=i3d_r50", "model/placement=five"), 8, 4, "fp32"),
    (("model=i3d_r50", "model/placement=five"), 32, 1, "fp32"),
    ((*TEN_LONG, "model/strides=authors_32"), 32, 2, "fp32"),
    (TEN_LONG, 128, 1, "bf16"),
    (UNPOOLED_LONG, 128, 1, "bf16"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one of them, or several; all by default")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--turns", type=positive, default=5, help="of each thing that is compared (5)")


def run(options: argparse.Namespace) -> Report:
    """The parts, one table each."""
    device = device_of(options)
    found = [(name, *PARTS[name](device, options.turns)) for name in options.part or PARTS]
    records = [{"part": name, **record} for name, _, _, part in found for record in part]
    return Report([(title, table) for _, title, table, _ in found], [], records)


def blocks_pooled(device: torch.device, turns: int) -> tuple[str, Table, Records]:
    """The block as networks have it."""
    places = [Place("res3", 4, pooled=True), Place("res3", 16, pooled=True), Place("res4", 4, pooled=True)]
    cells: Cells = [(form, place, None) for place in places for form in FORMS]
    return "Blocks with pooled keys", *_blocks(cells, device, turns)


def blocks_unpooled(device: torch.device, turns: int) -> tuple[str, Table, Records]:
    """Every position is a key."""
    places = [Place("res3", frames, pooled=False) for frames in (8, 16)]
    cells: Cells = [(form, place, None) for place in places for form in FORMS]
    return "Blocks without pooling", *_blocks(cells, device, min(turns, 3))


def pairs(device: torch.device, turns: int) -> tuple[str, Table, Records]:
    """Concatenation against the [B, 2D, N, M] tensor of public code."""
    cells: Cells = [("concatenation", Place("res4", 4, pooled=pooled), "textbook") for pooled in (True, False)]
    return "Concatenation against the tensor of all pairs", *_blocks(cells, device, min(turns, 3))


def _blocks(cells: Cells, device: torch.device, turns: int) -> tuple[Table, Records]:
    records = [
        block.measure(form, place, against=against or baseline(form), precision="fp32", device=device, turns=turns)
        for form, place, against in _counted(cells)
    ]
    return Table(block.COLUMNS, [block.row(record) for record in records]), records


def linear(device: torch.device, turns: int) -> tuple[str, Table, Records]:
    """Memory of each form as the clip gets longer; times are not needed."""
    frames = (4, 8, 16)
    records: Records = []
    rows: list[Sequence[Cell]] = []
    for form in _counted(list(FORMS)):
        peaks = [
            block.growth(form, Place("res3", count, pooled=False), "ours", precision="fp32", device=device)
            for count in frames
        ]
        records.append({"form": form, "frames": list(frames), "memory": peaks})
        steps = [f"{after / before:.2f}" for before, after in itertools.pairwise(peaks)]
        rows.append((form.replace("_", " "), *(peak / 2**20 for peak in peaks), " and ".join(steps)))
    columns = [Column("form"), *(Column(f"T={count}", "MiB", 0) for count in frames), Column("doubling T")]
    return "Memory of a block at res3 without pooling", Table(columns, rows), records


def networks(device: torch.device, turns: int) -> tuple[str, Table, Records]:
    """Steps of whole networks. Times alone: the part ``memory`` has the rest."""
    batch = 8 if device.type == "cuda" else 1
    records = [
        {
            "name": name,
            **model.measure(
                Network(overrides),
                task,
                precision,
                ("ours", "textbook"),
                batch=batch,
                device=device,
                turns=turns,
                memory=False,
            ),
        }
        for (name, overrides), task, precision in _counted(
            list(itertools.product(NETWORKS.items(), model.TASKS, model.PRECISIONS))
        )
    ]
    columns = [Column("network"), *model.COLUMNS]
    rows = [(record["name"], *model.row(record)) for record in records]
    return f"Networks, {batch} clip(s) of 8×224×224", Table(columns, rows), records


def memories(device: torch.device, turns: int) -> tuple[str, Table, Records]:
    """Peak memory by configuration, estimated and measured."""
    records = [
        memory.compare(Network(overrides, frames=frames), batch=clips, precision=precision, device=device, measure=True)
        for overrides, frames, clips, precision in _counted(MEMORY)
    ]
    return "Peak memory of training", Table(memory.COLUMNS, [memory.row(record) for record in records]), records


def _counted(things: Sequence[Thing]) -> Iterator[Thing]:
    """The same, and on the standard error stream which of them is measured: a part takes minutes."""
    for number, thing in enumerate(things, start=1):
        print(f"{number}/{len(things)} {thing}", file=sys.stderr)
        yield thing


PARTS: dict[str, Part] = {
    "blocks_pooled": blocks_pooled,
    "blocks_unpooled": blocks_unpooled,
    "pairs": pairs,
    "linear": linear,
    "networks": networks,
    "memory": memories,
}
