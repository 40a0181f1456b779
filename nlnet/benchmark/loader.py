"""Training clips as they come from the videos, without a network: clips/s, and where the time goes.

Your own videos (data=folder data.root=VIDEOS, or any data set of nlnet train), or generated ones where no data.root is
given. Every row is measured in the same run, in interleaved turns. What it proposes it has measured.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from nlnet.benchmark.clip_pipelines import Clips, DecodingAlone, DecordPipeline, TorchCodecPipeline
from nlnet.benchmark.clip_stages import cost_alone, reencoded, stages
from nlnet.benchmark.networks import positive
from nlnet.benchmark.reports import Report
from nlnet.benchmark.sample_videos import write_videos
from nlnet.config.compose import build, check, compose
from nlnet.config.evaluation import available_cores, build_annotations, build_decoder
from nlnet.data.clips import TrainClips
from nlnet.data.loader import Readers, train_loader
from nlnet.report.tables import Column, Table

COLUMNS = (
    Column("row"),
    Column("workers"),
    Column("threads"),
    Column("clips/s"),
    Column("slowest turn"),
    Column("fastest turn"),
)
ALONE = (Column("row"), Column("CPU time", "ms", 1))
STAGES = (Column("stage"), Column("ms a clip", decimals=2), Column("share", "%", 1))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="as of nlnet train, such as data=folder data.root=videos")
    parser.add_argument("--config-dir", help="a folder with your own configs")
    parser.add_argument("--batch", type=positive, default=4, help="clips at a time (4)")
    parser.add_argument("--batches", type=positive, default=12, help="in each turn (12)")
    parser.add_argument("--turns", type=positive, default=3, help="of them (3)")
    parser.add_argument("--videos", type=positive, default=16, help="to generate, or of the training list to take (16)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where generated videos are kept for another time")
    parser.add_argument("--rivals", action="store_true", help="decoding alone, decord and torchcodec pipelines too")
    parser.add_argument("--quick", action="store_true", help="the rows alone: no stages, no re-encoding")


def run(options: argparse.Namespace) -> Report:
    """Measures rows in turns, then the stages of a clip, then what re-encoding would give."""
    with tempfile.TemporaryDirectory() as folder:
        config = _config(options, options.keep or Path(folder))
        clips = _train_clips(config, options.videos)
        others = _others(clips) if options.rivals else {}
        rows = _rows(clips, others, options)
        rates = _measure(rows, options)
        table = Table(COLUMNS, [_row(name, readers, rates[name]) for name, readers, _ in rows])
        tables = [("", table)]
        records: list[dict[str, Any]] = [
            {"row": name, "workers": readers.workers, "threads": readers.threads, "clips_per_second": rates[name]}
            for name, readers, _ in rows
        ]
        own = {name: (readers, _middle(rates[name])) for name, readers, _ in rows if name.startswith("nlnet")}
        best, rate = max(own.values(), key=lambda pair: pair[1])
        lines = [f"proposal: workers={best.workers} threads={best.threads} ({rate:.1f} clips/s)"]
        if others:
            costs = cost_alone({"nlnet": clips, **others}, number=options.batch * options.batches)
            tables.append(("A clip in one thread of one process", Table(ALONE, list(costs.items()))))
            records.append({"cpu_ms": costs})
        if not options.quick:
            shares = stages(clips, batch=options.batch, batches=max(2, options.batches // 2))
            whole = sum(shares.values())
            tables.append(
                (
                    "Where the time of a clip goes, one thread",
                    Table(STAGES, [(n, t, 100 * t / whole) for n, t in shares.items()]),
                )
            )
            records.append({"stages_ms": shares})
            lines += reencoded(clips, Path(folder), whole=whole, decode=shares["decode"])
    return Report(tables, lines, records)


def _config(options: argparse.Namespace, folder: Path) -> Any:
    """The config of the user's data; generated videos and clips of 32 frames of stride 2 where there are none."""
    overrides = list(options.overrides)
    if not any(override.startswith("data.root=") for override in overrides):
        write_videos(folder, options.videos)
        overrides = [
            "data=folder",
            f"data.root={folder}",
            "data/clip=32x2",
            "data.annotations.val_fraction=0.01",
            *overrides,
        ]
    config = compose("train", ["model/init=scratch", *overrides], config_dir=options.config_dir)
    check(config)
    return config


def _train_clips(config: Any, number: int) -> TrainClips:
    videos = build_annotations(config.data).train
    chosen = type(videos)(videos.videos[:: max(1, len(videos) // number)][:number], videos.classes, videos.source)
    return TrainClips(chosen, decoder=build_decoder(config.data), view=build(config.data.augment), seed=config.seed)


Row = tuple[str, Readers, Callable[[int], Iterator[Any]]]  # name, who reads, batches -> an iterator over them


def _rows(clips: TrainClips, others: dict[str, Dataset[Any]], options: argparse.Namespace) -> list[Row]:
    """What is measured: nlnet's loader with processes and with threads, and the others with processes."""
    cores = available_cores()
    readers = [
        Readers(cores),
        Readers(0, cores),
        Readers(0, 2 * cores),
        Readers(cores, 2),
        Readers(max(1, cores // 2), 4),
    ]
    rows: list[Row] = []
    for reader in dict.fromkeys(readers):

        def nlnet(batches: int, reader: Readers = reader) -> Iterator[Any]:
            return iter(train_loader(clips, batch_size=options.batch, start_step=0, steps=batches, readers=reader))

        rows.append((f"nlnet, {reader.workers} x {reader.threads or 1}", reader, nlnet))
    for name, data in others.items():

        def other(batches: int, data: Dataset[Any] = data) -> Iterator[Any]:
            numbers = [
                list(range(start, start + options.batch)) for start in range(0, batches * options.batch, options.batch)
            ]
            return iter(DataLoader(data, batch_sampler=numbers, num_workers=cores, worker_init_fn=_one_thread))

        rows.append((name, Readers(cores), other))
    return rows


def _others(clips: TrainClips) -> dict[str, Dataset[Any]]:
    """Decoding alone and the two pipelines, as far as they are installed."""
    plain = Clips([video.path for video in clips.videos.videos], clips.view, clips.seed)
    makers: dict[str, Callable[[], Dataset[Any]]] = {
        "decoding alone": lambda: DecodingAlone(plain, drop=False),
        "decoding alone, unneeded frames left out": lambda: DecodingAlone(plain, drop=True),
        "decord pipeline": lambda: DecordPipeline(plain),
        "torchcodec pipeline": lambda: TorchCodecPipeline(plain),
    }
    others = {}
    for name, make in makers.items():
        with suppress(ImportError, RuntimeError, OSError):  # an optional part that is not installed
            others[name] = make()
    return others


def _measure(rows: Sequence[Row], options: argparse.Namespace) -> dict[str, list[float]]:
    """Clips/s of each turn.

    A turn starts the loader anew. Its first batches, of the start-up, do not count, and there are as many behind the
    last one that counts: what was read ahead before the clock started is paid for by what is read ahead at its end.
    """
    rates: dict[str, list[float]] = {name: [] for name, _, _ in rows}
    for _ in range(options.turns):
        for name, readers, start_loader in rows:
            warm_up = 2 * max(1, readers.workers) + 1  # what the workers hold ready
            batches = start_loader(warm_up + options.batches + warm_up)
            for _ in itertools.islice(batches, warm_up):
                pass
            start = time.perf_counter()
            seen = sum(1 for _ in itertools.islice(batches, options.batches))
            rates[name].append(seen * options.batch / (time.perf_counter() - start))
            del batches
    return rates


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _row(name: str, readers: Readers, rates: list[float]) -> tuple[Any, ...]:
    return name, readers.workers, readers.threads, _middle(rates), min(rates), max(rates)


def _middle(rates: list[float]) -> float:
    return sorted(rates)[len(rates) // 2]
