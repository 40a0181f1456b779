"""Training as nlnet train does it: loader and step together, clips/s, share of the matrix rate, data-wait share."""

import argparse
import tempfile
from collections.abc import Iterator

import torch

from nlnet import distributed
from nlnet.benchmark.machine import matrix_rate
from nlnet.benchmark.model import FORWARD_PASSES
from nlnet.benchmark.networks import dtype_of, positive, sequence_text
from nlnet.benchmark.reports import Report
from nlnet.config import TrainJob, build_train, compose
from nlnet.engine.memory import highest_resident
from nlnet.engine.meter import Meter
from nlnet.engine.trainer import Batch, Trainer
from nlnet.models import cost
from nlnet.report.tables import Column, Table

COLUMNS = (
    Column("steps"),
    Column("clips/s"),
    Column("waiting for data", "%", 0),
    Column("GMAC/s"),
    Column("of the matrix rate", "%", 0),
    Column("peak memory of this process", "MiB", 0),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="as of nlnet train: trainer.batch_size, trainer.precision, …")
    parser.add_argument("--config-dir", help="a folder with your own configs")
    parser.add_argument("--steps", type=positive, default=10, help="of each turn (10)")
    parser.add_argument("--turns", type=positive, default=3, help="of so many steps (3)")
    parser.add_argument("--warm-up", type=positive, default=3, help="steps that do not count (3)")


def run(options: argparse.Namespace) -> Report:
    """One row for each turn. The run itself is made in a temporary folder and left when the turns are done."""
    with tempfile.TemporaryDirectory(prefix="nlnet-benchmark-") as folder:
        quiet = [f"runs={folder}", "name=benchmark", "tensorboard=false"]
        config = compose("train", [*options.overrides, *quiet], config_dir=options.config_dir)
        device = distributed.device(config.device)
        return _turns(build_train(config), options, device)


def _turns(job: TrainJob, options: argparse.Namespace, device: torch.device) -> Report:
    trainer = job.trainer
    trainer.start()
    steps = options.warm_up + options.turns * options.steps
    batches = iter(trainer.data.batches(0, steps))
    _run(trainer, batches, options.warm_up)
    view = job.clips.view
    clip = (view.frames, view.crop, view.crop)
    macs = cost.multiply_adds(job.model, clip) * FORWARD_PASSES["train"]
    rate = matrix_rate(dtype_of(trainer.settings.precision), device)
    records = []
    for _ in range(options.turns):
        trainer.meter = Meter(device)
        _run(trainer, batches, options.steps)
        values = trainer.meter.read()
        records.append(
            {
                "steps": options.steps,
                "clips_per_second": values["clips_per_second"],
                "data_share": values["data_share"],
                "macs_per_second": values["clips_per_second"] * macs,
                "matrix_rate": rate,
                "memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else highest_resident(),
            }
        )
    rows = [
        (
            record["steps"],
            record["clips_per_second"],
            100 * record["data_share"],
            record["macs_per_second"] / 1e9,
            100 * record["macs_per_second"] / rate,
            record["memory"] / 2**20,
        )
        for record in records
    ]
    title = f"{trainer.settings.batch_size} clips of {sequence_text(clip)} a step, {trainer.settings.precision}"
    notes = [f"The machine's own matrix product: {rate / 1e9:.0f} GMAC/s."]
    return Report([(title, Table(COLUMNS, rows))], notes, records)


def _run(trainer: Trainer, batches: Iterator[Batch], steps: int) -> None:
    for _ in range(steps):
        trainer.train_step(batches)
