"""What a network costs, part by part, counted without running it."""

import argparse
from collections.abc import Sequence

from nlnet.benchmark.networks import add_network_options, network_of, sequence_text
from nlnet.benchmark.reports import Report
from nlnet.models import cost
from nlnet.report.tables import Cell, Column, Table

MIB = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)


def run(options: argparse.Namespace) -> Report:
    """Counts parameters, multiply-adds and attention matrices of each part, and the activations of all."""
    network = network_of(options)
    model = network.model("meta")
    rows: list[Sequence[Cell]] = [
        (
            part.name,
            sequence_text(part.output),
            part.parameters / 1e6,
            part.multiply_adds / 1e9,
            part.attention / MIB if part.attention else None,
        )
        for part in cost.parts(model, network.clip)
    ]
    columns = (
        Column("part"),
        Column("output"),
        Column("params", "M", 3),
        Column("MACs", "G", 3),
        Column("attention matrix", "MiB", 2),
    )
    total = cost.total(model, network.clip)
    return Report([("", Table(columns, rows))], [total.line()], [total.record()])
