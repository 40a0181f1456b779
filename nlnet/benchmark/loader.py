"""Training clips as they come from the videos, without a network: clips/s."""

import argparse
import itertools
import time
from typing import Any

from nlnet.benchmark.networks import positive
from nlnet.benchmark.reports import Report
from nlnet.config.compose import build, check, compose
from nlnet.config.evaluation import build_annotations, choose_workers
from nlnet.data.clips import TrainClips
from nlnet.data.loader import train_loader
from nlnet.report.tables import Column, Table

COLUMNS = (Column("workers"), Column("batch"), Column("clips/s"), Column("slowest turn"), Column("fastest turn"))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="as of nlnet train, such as data=folder data.root=videos")
    parser.add_argument("--config-dir", help="a folder with your own configs")
    parser.add_argument("--batch", type=positive, default=8, help="clips at a time (8)")
    parser.add_argument("--batches", type=positive, default=10, help="in each turn (10)")
    parser.add_argument("--turns", type=positive, default=3, help="of them (3)")


def run(options: argparse.Namespace) -> Report:
    """Loads batches as ``nlnet train`` would and throws them away; the first ones, of the start-up, do not count."""
    config = compose("train", ["model/init=scratch", *options.overrides], config_dir=options.config_dir)
    check(config)
    notes: list[str] = []
    workers = choose_workers(config.workers, say=notes.append)
    annotations = build_annotations(config.data)
    clips = TrainClips(
        annotations.train, decoder=build(config.data.decoder), view=build(config.data.augment), seed=config.seed
    )
    warm_up = max(2, 2 * workers)  # what the workers hold ready
    steps = warm_up + options.turns * options.batches
    batches = iter(train_loader(clips, batch_size=options.batch, start_step=0, steps=steps, workers=workers))
    for _ in itertools.islice(batches, warm_up):
        pass
    rates = []
    for _ in range(options.turns):
        start = time.perf_counter()
        for _ in itertools.islice(batches, options.batches):
            pass
        rates.append(options.batches * options.batch / (time.perf_counter() - start))
    record: dict[str, Any] = {"workers": workers, "batch": options.batch, "clips_per_second": rates}
    middle = sorted(rates)[len(rates) // 2]
    table = Table(COLUMNS, [(workers, options.batch, middle, min(rates), max(rates))])
    return Report([("", table)], notes, [record])
