"""``nlnet data VERB …``: videos made ready for training. Killed and started again, a verb goes on."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nlnet.cli.arguments import Parser
from nlnet.config.compose import build, compose
from nlnet.config.compose import check as check_config
from nlnet.config.evaluation import build_annotations
from nlnet.data.annotations.lists import ListForm
from nlnet.data.annotations.text import read_classes
from nlnet.data.prepare.check import Effort, check, read_quarantine
from nlnet.data.prepare.contact_sheet import shown_clips
from nlnet.data.prepare.diff import BY, diff
from nlnet.data.prepare.lists import write_lists
from nlnet.data.prepare.resize import Encoding, resize
from nlnet.data.prepare.scan import Split, scan
from nlnet.data.prepare.shard import shard
from nlnet.data.prepare.sources import Sources
from nlnet.data.prepare.stats import stats
from nlnet.errors import ConfigError, DataError
from nlnet.report.contact_sheet import contact_sheet
from nlnet.report.data_plots import plot_statistics

Options = argparse.Namespace


@dataclass(frozen=True)
class Verb:
    """What ``nlnet data VERB`` does."""

    what: str
    arguments: Callable[[Parser], None]
    run: Callable[[Options], str]  # -> what to say at the end


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.what, description=f"nlnet data {name}: {verb.what}."))
    options = parser.parse_args(arguments)
    print(VERBS[options.verb].run(options))
    return 0


def _out(parser: Parser) -> None:
    parser.add_argument("--out", required=True, type=Path, help="a folder for the results")


def _sources(parser: Parser) -> None:
    parser.add_argument("source", nargs="+", help="a folder of videos, or list files ('path label' or CSV)")
    parser.add_argument("--root", help="the folder that the paths of lists start from; the lists' own by default")
    parser.add_argument("--several-labels", action="store_true", help="lines are 'path label label …', or with none")
    _out(parser)


def _workers(parser: Parser, *, time_limit_s: float = 300) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help=f"processes ({cores}, one for each core)")
    limit = f"seconds for one video, then it counts as bad ({time_limit_s:g})"
    parser.add_argument("--time-limit", type=float, default=time_limit_s, metavar="S", help=limit)


def _read_sources(options: Options) -> Sources:
    def skip(name: str, reason: str) -> None:
        print(f"left out: {name!r}: {reason}", file=sys.stderr)

    form = ListForm(several_labels=options.several_labels)
    return Sources(options.source, options.root, skip=skip, form=form)


def _effort(options: Options) -> Effort:
    return Effort(options.workers, options.time_limit)


def _lists_arguments(parser: Parser) -> None:
    parser.add_argument("overrides", nargs="+", metavar="key=value", help="as of nlnet train: data=… data.root=…")
    parser.add_argument("--config-dir", help="a folder with your own configs")
    _out(parser)


def _lists(options: Options) -> str:
    config = compose("train", options.overrides, config_dir=options.config_dir)
    check_config(config)
    annotations, decoder = build_annotations(config.data), build(config.data.decoder)
    return write_lists(annotations, str(config.data.root), options.out, decoder=decoder)


def _scan_arguments(parser: Parser) -> None:
    parser.add_argument("folder", help="FOLDER/CLASS/VIDEO, or FOLDER/train/CLASS/VIDEO and FOLDER/val/CLASS/VIDEO")
    _out(parser)
    parser.add_argument("--val", type=float, default=0.2, help="share of each class for validation (0.2)")
    parser.add_argument("--test", type=float, default=0.0, help="share of each class for a test (0)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (0)")
    parser.add_argument("--without", metavar="CSV", help="leave out what this list names: the quarantine of a check")
    parser.add_argument(
        "--pattern",
        help="regular expression for paths from FOLDER without extension; its group (or (?P<source>…)) is the source "
        "video whose clips stay together, (?P<class_>…) the class",
    )


def _scan(options: Options) -> str:
    split = Split(val=options.val, test=options.test, seed=options.seed, pattern=options.pattern)
    without = read_quarantine(options.without) if options.without else frozenset()
    return scan(options.folder, options.out, split=split, without=without)


def _check_arguments(parser: Parser) -> None:
    _sources(parser)
    _workers(parser)
    parser.add_argument("--probes", type=int, default=5, help="frames to decode of each video (5)")
    parser.add_argument("--whole", action="store_true", help="decode all frames: slow, and finds single lost ones")
    parser.add_argument("--min-frames", type=int, default=1, help="videos of fewer frames count as bad (1)")


def _check(options: Options) -> str:
    return check(
        _read_sources(options),
        options.out,
        effort=_effort(options),
        probes=options.probes,
        whole=options.whole,
        min_frames=options.min_frames,
    )


def _resize_arguments(parser: Parser) -> None:
    _sources(parser)
    _workers(parser, time_limit_s=3600)
    parser.add_argument("--short-side", type=int, default=256, help="pixels; 320 keeps more for jitter (256)")
    parser.add_argument("--key-frame-every", type=int, default=30, help="frames (30)")
    parser.add_argument("--quality", type=int, default=20, help="constant rate factor of x264, less is better (20)")
    parser.add_argument("--preset", default="veryfast", help="of x264: slower ones make smaller files (veryfast)")


def _resize(options: Options) -> str:
    encoding = Encoding(options.short_side, options.key_frame_every, options.quality, options.preset)
    return resize(_read_sources(options), options.out, effort=_effort(options), encoding=encoding)


def _stats_arguments(parser: Parser) -> None:
    _sources(parser)
    _workers(parser)


def _stats(options: Options) -> str:
    statistics = stats(_read_sources(options), options.out, effort=_effort(options))
    plot_statistics(statistics, options.out / "stats.png")
    return f"{statistics.text()}\n{options.out}: stats.txt, stats.png, classes.csv, histograms.csv, videos.csv"


def _shard_arguments(parser: Parser) -> None:
    _sources(parser)
    parser.add_argument("--prefix", default="train", help="of the shards' names (train)")
    parser.add_argument("--megabytes", type=float, default=1000, help="of the videos in one shard (1000)")
    parser.add_argument("--classes", help="a file with a class name on each line, in the order of the labels")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the videos (0)")


def _shard(options: Options) -> str:
    return shard(
        _read_sources(options),
        options.out,
        prefix=options.prefix,
        max_bytes=int(options.megabytes * 1e6),
        classes=read_classes(options.classes) if options.classes else None,
        seed=options.seed,
    )


def _contact_sheet_arguments(parser: Parser) -> None:
    _sources(parser)
    parser.add_argument("--per-class", type=int, default=1, help="videos of each class (1)")
    parser.add_argument("--rows", type=int, default=20, help="videos on one picture (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")


def _contact_sheet(options: Options) -> str:
    if options.rows < 1:
        raise ConfigError(f"--rows must be at least 1, not {options.rows}")
    clips = shown_clips(_read_sources(options), options.out, per_class=options.per_class, seed=options.seed)
    pages = 0
    while page := list(islice(clips, options.rows)):
        titles = [f"{each.label or 'no label'} · {each.reason or each.name}" for each in page]
        contact_sheet([each.frames for each in page], titles, path=options.out / f"contact_sheet_{pages:03d}.png")
        pages += 1
    if not pages:
        raise DataError(f"{options.source[0]}: no videos")
    return f"{options.out}/contact_sheet_000.png" + (f" to {pages - 1:03d}" if pages > 1 else "")


def _diff_arguments(parser: Parser) -> None:
    parser.add_argument("first", help="a folder of videos, or a list file")
    parser.add_argument("second", help="another")
    parser.add_argument("--root", help="the folder that the paths of lists start from; each list's own by default")
    _out(parser)
    _workers(parser)
    by = "what makes two videos the same: name without folder and container, path, source video, or content (name)"
    parser.add_argument("--by", choices=BY, default="name", help=by)
    parser.add_argument(
        "--disjoint", action="store_true", help="exit code 2 if a video is in both, as of train and val"
    )


def _diff(options: Options) -> str:
    first, second = (Sources([source], options.root) for source in (options.first, options.second))
    found = diff(first, second, options.out, by=options.by, effort=_effort(options))
    text = found.text(options.first, options.second, options.by)
    if options.disjoint and found.both:
        print(text)
        raise DataError(f"{options.out}/both.csv: {found.both} videos are in both; take them out of one of the two")
    return f"{text}\n{options.out}: only_first.csv, only_second.csv, both.csv, twice.csv"


VERBS = {
    "scan": Verb("a folder -> training and validation lists, classes", _scan_arguments, _scan),
    "lists": Verb("the annotations of a data set (data=…) -> plain lists", _lists_arguments, _lists),
    "check": Verb("decode a little of every video, list the bad ones", _check_arguments, _check),
    "resize": Verb("smaller copies that decode fast", _resize_arguments, _resize),
    "stats": Verb("classes, durations, frame rates, sizes, codecs", _stats_arguments, _stats),
    "shard": Verb("tar files, for object stores and slow file systems", _shard_arguments, _shard),
    "contact-sheet": Verb("pictures of clips of each class", _contact_sheet_arguments, _contact_sheet),
    "diff": Verb("two lists or folders: what is missing, twice, in both", _diff_arguments, _diff),
}
