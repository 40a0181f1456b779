"""``nlnet benchmark cost [overrides]``: parameters, multiply-adds and memory of a network, part by part."""

import argparse
from collections.abc import Callable, Sequence

import torch

from nlnet.config.compose import check, compose
from nlnet.config.models import build_model
from nlnet.models import cost
from nlnet.report.tables import Cell, Column, Table

MIB = 2**20


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet benchmark", description=__doc__)
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="nlnet benchmark NAME --help tells more")
    options = parser.parse_args(arguments)
    BENCHMARKS[options.benchmark](options.arguments)
    return 0


def cost_table(arguments: Sequence[str]) -> None:
    """What a network costs, counted without running it."""
    parser = argparse.ArgumentParser(prog="nlnet benchmark cost", description=cost_table.__doc__)
    parser.add_argument("overrides", nargs="*", help="as of nlnet train, such as model=i3d_r50")
    parser.add_argument("--config-dir", help="a folder with your own configs")
    parser.add_argument("--classes", type=int, default=400, help="size of the classifier (400)")
    parser.add_argument("--crop", type=int, help="pixels; the training crop by default")
    options = parser.parse_intermixed_args(arguments)
    config = compose("train", ["data.root=.", "model/init=scratch", *options.overrides], config_dir=options.config_dir)
    check(config)
    config.model.init = None  # weights cost nothing
    with torch.device("meta"):
        model, _ = build_model(config.model, num_classes=options.classes)
    crop = options.crop or int(config.data.augment.crop)
    clip = (int(config.data.clip.frames), crop, crop)
    columns = (
        Column("part"),
        Column("output"),
        Column("params", "M", 3),
        Column("MACs", "G", 3),
        Column("attention matrix", "MiB", 2),
    )
    rows: list[Sequence[Cell]] = [
        (
            part.name,
            "×".join(map(str, part.output)),
            part.parameters / 1e6,
            part.multiply_adds / 1e9,
            part.attention / MIB if part.attention else None,
        )
        for part in cost.parts(model, clip)
    ]
    print(Table(columns, rows).to_text())
    print(cost.total(model, clip).line())


BENCHMARKS: dict[str, Callable[[Sequence[str]], None]] = {"cost": cost_table}
