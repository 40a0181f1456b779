"""A training step layer by layer: forward and backward of each alone, beside the textbook's layer."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nlnet.benchmark.machine import matrix_rate
from nlnet.benchmark.model import FORWARD_PASSES
from nlnet.benchmark.networks import (
    Network,
    Whose,
    add_network_options,
    add_run_options,
    device_of,
    dtype_of,
    make_step,
    network_of,
    sequence_text,
)
from nlnet.benchmark.reports import Report
from nlnet.benchmark.textbook import counterpart
from nlnet.benchmark.timing import Step, Timing, interleaved
from nlnet.engine.precision import Name, Precision
from nlnet.models import cost
from nlnet.models.non_local import NonLocalBlock
from nlnet.report.tables import Cell, Column, Table

WHO: tuple[Whose, ...] = ("ours", "textbook")
COLUMNS = (
    Column("layers"),
    Column("number", decimals=0),
    Column("time", "ms"),
    Column("of the matrix rate", "%", 0),
    Column("textbook's time", "ms"),
    Column("times as fast"),
)
BETWEEN = "ReLU, additions, pooling of the head, classifier, optimiser"


@dataclass(frozen=True)
class Layer:
    """A layer of a network: the part and kind that it is counted under, and the shape of what it is given."""

    part: str
    kind: str
    module: nn.Module
    shape: tuple[int, ...]
    first: bool  # it is given clips, which need no gradient

    @property
    def likeness(self) -> tuple[str, ...]:
        """Layers that share it take the same time."""
        return self.part, self.kind, str(self.module), str(self.shape)

    @property
    def multiply_adds(self) -> int:
        """Of forward and backward."""
        passes = FORWARD_PASSES["train"] - self.first
        return passes * cost.layer_multiply_adds(self.module, self.shape)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)
    add_run_options(parser, turns=5)


def run(options: argparse.Namespace) -> Report:
    """One table for each precision."""
    network, device = network_of(options), device_of(options)
    tables, records = [], []
    for precision in options.precision:
        found = measure(network, precision, batch=options.batch, device=device, turns=options.turns)
        title = f"{' '.join(options.overrides) or 'the default network'} · {options.batch} clips of "
        tables.append((f"{title}{sequence_text(network.clip)} · {precision}", Table(COLUMNS, list(rows(found)))))
        records += found
    notes = [
        f"Forward and backward of each layer alone; medians of {options.turns} interleaved turns, times the number "
        "of layers. The last row is what a whole step takes besides.",
    ]
    return Report(tables, notes, records)


def layers(network: Network, batch: int) -> list[Layer]:
    """Convolutions, batch norms, poolings and non-local blocks in the order in which they run."""
    model = network.model("meta")
    found: list[Layer] = []
    outer = {name for name, module in model.named_modules() if isinstance(module, NonLocalBlock)}

    def noting(name: str) -> Any:
        def note(module: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
            part = name.partition(".")[0]
            found.append(Layer(part, _kind(module), module, tuple(given[0].shape), first=not found))

        return note

    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in outer)
        if not inside and isinstance(module, (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, NonLocalBlock)):
            module.register_forward_hook(noting(name))
    model.train()(torch.empty(batch, 3, *network.clip, device="meta"))
    return found


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv3d):
        return f"convolutions {sequence_text(module.kernel_size)}"
    if isinstance(module, nn.BatchNorm3d):
        return "batch norm"
    return "max pool" if isinstance(module, nn.MaxPool3d) else "non-local blocks"


def measure(network: Network, precision: Name, *, batch: int, device: torch.device, turns: int) -> list[dict[str, Any]]:
    """One record for each kind of layer of each part, and one for the whole step, as plain data."""
    grouped: dict[tuple[str, ...], list[Layer]] = {}
    for layer in layers(network, batch):
        grouped.setdefault(layer.likeness, []).append(layer)
    rate = matrix_rate(dtype_of(precision), device)
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for alike in grouped.values():
        layer, count = alike[0], len(alike)
        timings = interleaved(_steps(layer, precision, device), turns=turns, device=device, least_s=0.05)
        record = records.setdefault((layer.part, layer.kind), _empty(layer.part, layer.kind, turns, rate))
        record["number"] += count
        record["macs"] += count * layer.multiply_adds
        for whose in WHO:
            record["seconds"][whose] = [
                before + count * now
                for before, now in zip(record["seconds"][whose], timings[whose].seconds, strict=True)
            ]
    whole: dict[str, Step] = {
        whose: make_step(network, whose, "train", batch=batch, precision=precision, device=str(device)) for whose in WHO
    }
    step = _empty("", "the whole step", turns, rate)
    step["number"], step["macs"] = 1, sum(record["macs"] for record in records.values())
    step["seconds"] = {
        whose: list(timing.seconds) for whose, timing in interleaved(whole, turns=turns, device=device).items()
    }
    return [{**record, "precision": precision} for record in [*records.values(), step]]


def _empty(part: str, kind: str, turns: int, rate: float) -> dict[str, Any]:
    seconds = {whose: [0.0] * turns for whose in WHO}
    return {"part": part, "kind": kind, "number": 0, "macs": 0, "seconds": seconds, "matrix_rate": rate}


def _steps(layer: Layer, precision: Name, device: torch.device) -> dict[str, Step]:
    """Forward and backward of ours and of the textbook's, each with its input as its network has it in memory."""
    ours = layer.module.to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in (*ours.parameters(), *ours.buffers()):
            tensor.fill_(1) if tensor.ndim < 2 else nn.init.normal_(tensor, std=0.01)
    textbook = counterpart(ours)
    # Clips come in float32, everything else from a layer in front, in the type of its products.
    x = torch.randn(layer.shape, device=device, dtype=torch.float32 if layer.first else dtype_of(precision))
    last = torch.channels_last_3d
    given = {"ours": (ours.to(memory_format=last), x.to(memory_format=last)), "textbook": (textbook, x)}
    autocast = Precision(precision, device).autocast
    return {whose: _step(module, x.requires_grad_(not layer.first), autocast) for whose, (module, x) in given.items()}


def _step(module: nn.Module, x: Tensor, autocast: Callable[[], AbstractContextManager[Any]]) -> Step:
    with autocast():
        gradient = torch.ones_like(module.train()(x))

    def step() -> None:
        x.grad = None
        module.zero_grad(set_to_none=True)
        with autocast():
            y = module(x)
        y.backward(gradient)

    return step


def rows(records: Sequence[dict[str, Any]]) -> Iterable[Sequence[Cell]]:
    """Records as rows of COLUMNS: the layers, what they are together, the whole step, and what is besides."""
    *parts, step = records
    together = _together(parts)
    yield from (_row(f"{record['part']}, {record['kind']}", record) for record in parts)
    yield _row("all of these", together)
    yield _row("the whole step", step)
    besides = [
        1e3 * (Timing(step["seconds"][whose]).median - Timing(together["seconds"][whose]).median) for whose in WHO
    ]
    yield BETWEEN, None, besides[0], None, besides[1], None


def _together(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def summed(key: str) -> int:
        return sum(record[key] for record in records)

    seconds = {
        whose: [sum(turn) for turn in zip(*(record["seconds"][whose] for record in records), strict=True)]
        for whose in WHO
    }
    return {**records[0], "number": summed("number"), "macs": summed("macs"), "seconds": seconds}


def _row(name: str, record: dict[str, Any]) -> Sequence[Cell]:
    ours, textbook = (Timing(record["seconds"][whose]) for whose in WHO)
    share = 100 * record["macs"] / ours.median / record["matrix_rate"]
    return (
        name,
        record["number"],
        1e3 * ours.median,
        share or None,
        1e3 * textbook.median,
        str(textbook.ratio(ours)),
    )
