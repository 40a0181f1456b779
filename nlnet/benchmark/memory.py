"""Peak memory of training by precision and batch: the estimate of nlnet train, and what a process really takes."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from nlnet.benchmark import peaks
from nlnet.benchmark.networks import (
    Network,
    add_network_options,
    device_of,
    make_step,
    network_of,
    positive,
    precisions,
    sequence_text,
)
from nlnet.benchmark.peaks import in_fresh_process
from nlnet.benchmark.reports import Report
from nlnet.config.compose import build
from nlnet.engine.memory import estimate
from nlnet.engine.precision import Name, Precision
from nlnet.report.tables import Cell, Column, Table

COLUMNS = (
    Column("network"),
    Column("clip"),
    Column("clips"),
    Column("precision"),
    Column("estimate", "MiB", 0),
    Column("measured", "MiB", 0),
    Column("estimate is off by", "%", 0, signed=True),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)
    parser.add_argument("--batch", type=positive, nargs="+", default=[1], help="clips of a micro-batch: some numbers")
    parser.add_argument("--precision", type=precisions, default=("fp32",), help="fp32 (default), bf16, or fp32,bf16")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--measure", action="store_true", help="run two steps of each in a process of its own")


def run(options: argparse.Namespace) -> Report:
    """One row for each precision and batch."""
    network, device = network_of(options), device_of(options)
    records = [
        compare(network, batch=batch, precision=precision, device=device, measure=options.measure)
        for precision in options.precision
        for batch in options.batch
    ]
    what = "of all tensors on the GPU" if device.type == "cuda" else "of the training process"
    return Report([("", Table(COLUMNS, [row(record) for record in records]))], [f"Peaks {what}."], records)


def compare(network: Network, *, batch: int, precision: Name, device: torch.device, measure: bool) -> dict[str, Any]:
    """Estimate and measurement of one configuration, as plain data; bytes."""
    configuration = (network, batch, precision, str(device))
    if measure:
        estimated, measured = in_fresh_process(_both, *configuration, torch.get_num_threads())
    else:
        estimated, measured = estimate_of(*configuration), None
    return {
        "network": list(network.overrides),
        "clip": list(network.clip),
        "batch": batch,
        "precision": precision,
        "estimate": estimated,
        "measured": measured,
    }


def _both(network: Network, batch: int, precision: Name, device: str, threads: int) -> tuple[int, int]:
    """The estimate and what two steps take then, in this process, which should be a new one."""
    estimated = estimate_of(network, batch, precision, device)
    step = partial(make_step, network, "ours", "train", batch=batch, precision=precision, device=device)
    return estimated, peaks.measure(step, 2, torch.device(device), threads).highest


def estimate_of(network: Network, batch: int, precision: Name, device: str) -> int:
    """Bytes that this process will take for a step, or its GPU, without running one."""
    config = network.config
    model = network.model(device).to(memory_format=torch.channels_last_3d)
    return estimate(
        model,
        network.optimizer(model),
        clips=(batch, *network.clip),
        classes=network.classes,
        to_input=build(config.data.normalize),
        loss=build(config.trainer).loss,
        precision=Precision(precision, torch.device(device)),
    )


def row(record: dict[str, Any]) -> Sequence[Cell]:
    """A record as a row of COLUMNS."""
    estimated, measured = record["estimate"], record["measured"]
    return (
        " ".join(record["network"]) or "the default",
        sequence_text(record["clip"]),
        record["batch"],
        record["precision"],
        estimated / 2**20,
        measured / 2**20 if measured else None,
        100 * (estimated / measured - 1) if measured else None,
    )
