"""Inference and training steps of a network: clips/s, share of the matrix rate, peak memory, and the textbook's."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import torch

from nlnet.benchmark.machine import matrix_rate
from nlnet.benchmark.networks import (
    Network,
    Task,
    Whose,
    add_network_options,
    add_run_options,
    device_of,
    dtype_of,
    make_step,
    network_of,
    sequence_text,
)
from nlnet.benchmark.peaks import peak_memory
from nlnet.benchmark.reports import Report
from nlnet.benchmark.timing import Ratio, Timing, interleaved
from nlnet.engine.precision import Name
from nlnet.models import cost
from nlnet.report.tables import Cell, Column, Table

TASKS: tuple[Task, ...] = get_args(Task)
PRECISIONS: tuple[Name, ...] = ("fp32", "bf16")
FORWARD_PASSES = {"inference": 1, "train": 3}  # a backward pass computes twice what a forward pass does
COLUMNS = (
    Column("task"),
    Column("precision"),
    Column("clips/s"),
    Column("GMAC/s"),
    Column("of the matrix rate", "%", 0),
    Column("peak memory", "MiB", 0),
    Column("textbook's clips/s"),
    Column("textbook's memory", "MiB", 0),
    Column("times as fast as the textbook"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)
    add_run_options(parser, turns=5)
    parser.add_argument("--task", choices=TASKS, help="train or inference alone; both by default")
    parser.add_argument("--alone", action="store_true", help="without the textbook network, which takes its time")
    parser.add_argument("--no-memory", action="store_true", help="times only; memory takes a process for each cell")


def run(options: argparse.Namespace) -> Report:
    """One row for each task and precision."""
    network, device = network_of(options), device_of(options)
    who: list[Whose] = ["ours"] if options.alone else ["ours", "textbook"]
    tasks: Sequence[Task] = [options.task] if options.task else TASKS
    records = [
        measure(
            network,
            task,
            precision,
            who,
            batch=options.batch,
            device=device,
            turns=options.turns,
            memory=not options.no_memory,
        )
        for task in tasks
        for precision in options.precision
    ]
    title = f"{' '.join(options.overrides) or 'the default network'} · {options.batch} clips of " + sequence_text(
        network.clip
    )
    rates = ", ".join(
        f"{record['precision']} {record['matrix_rate'] / 1e9:.0f} GMAC/s"
        for record in records[: len(options.precision)]
    )
    notes = [
        f"The machine's own matrix product: {rates}. Peak memory: growth in a process of its own.",
        f"Medians of {options.turns} interleaved turns; ratios are medians over the turns (smallest–largest).",
    ]
    return Report([(title, Table(COLUMNS, [row(record) for record in records]))], notes, records)


def measure(
    network: Network,
    task: Task,
    precision: Name,
    who: Sequence[Whose],
    *,
    batch: int,
    device: torch.device,
    turns: int,
    memory: bool = True,
) -> dict[str, Any]:
    """Times and peaks of one task in one precision, as plain data."""
    make = {
        whose: partial(make_step, network, whose, task, batch=batch, precision=precision, device=str(device))
        for whose in who
    }
    peaks = {whose: peak_memory(make[whose], steps=2, device=device) for whose in who} if memory else {}
    timings = interleaved({whose: make[whose]() for whose in who}, turns=turns, device=device)
    macs = cost.multiply_adds(network.model("meta"), network.clip) * batch * FORWARD_PASSES[task]
    rate = macs / timings["ours"].median
    return {
        "network": list(network.overrides),
        "clip": list(network.clip),
        "batch": batch,
        "task": task,
        "precision": precision,
        "seconds": {whose: list(timing.seconds) for whose, timing in timings.items()},
        "macs": macs,
        "macs_per_second": rate,
        "matrix_rate": matrix_rate(dtype_of(precision), device),
        "memory": {whose: peak.growth for whose, peak in peaks.items()},
        "ratio": list(timings["textbook"].ratio(timings["ours"]).values) if "textbook" in timings else None,
    }


def row(record: dict[str, Any]) -> Sequence[Cell]:
    """A record as a row of COLUMNS."""

    def clips_per_second(whose: str) -> float | None:
        seconds = record["seconds"].get(whose)
        return record["batch"] / Timing(seconds).median if seconds else None

    def mebibytes(whose: str) -> float | None:
        return record["memory"][whose] / 2**20 if whose in record["memory"] else None

    return (
        record["task"],
        record["precision"],
        clips_per_second("ours"),
        record["macs_per_second"] / 1e9,
        100 * record["macs_per_second"] / record["matrix_rate"],
        mebibytes("ours"),
        clips_per_second("textbook"),
        mebibytes("textbook"),
        str(Ratio(record["ratio"])) if record["ratio"] else None,
    )
