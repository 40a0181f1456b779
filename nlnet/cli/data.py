"""``nlnet data VERB …``: videos made ready for training. Killed and started again, a verb goes on."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nlnet.data.annotations.text import read_classes
from nlnet.data.prepare.shard import shard
from nlnet.data.prepare.sources import Sources

Parser = argparse.ArgumentParser
Options = argparse.Namespace


class Verb(NamedTuple):
    """What ``nlnet data VERB`` does."""

    what: str
    arguments: Callable[[Parser], None]
    run: Callable[[Options], str]  # -> what to say at the end


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet data", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.what, description=verb.what))
    options = parser.parse_args(arguments)
    print(VERBS[options.verb].run(options))
    return 0


def _sources(parser: Parser) -> None:
    parser.add_argument("source", nargs="+", help="a folder of videos, or list files ('path label' or CSV)")
    parser.add_argument("--root", help="the folder that the paths of lists start from; the lists' own by default")
    parser.add_argument("--out", required=True, type=Path, help="a folder for the results")


def _workers(parser: Parser) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help=f"processes ({cores}, one for each core)")
    parser.add_argument("--time-limit", type=float, default=300, metavar="S", help="seconds for one video (300)")


def _shard_arguments(parser: Parser) -> None:
    _sources(parser)
    parser.add_argument("--prefix", default="train", help="of the shards' names (train)")
    parser.add_argument("--megabytes", type=float, default=1000, help="of the videos in one shard (1000)")
    parser.add_argument("--classes", help="a file with a class name on each line, in the order of the labels")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the videos (0)")


def _shard(options: Options) -> str:
    return shard(
        Sources(options.source, options.root),
        options.out,
        prefix=options.prefix,
        max_bytes=int(options.megabytes * 1e6),
        classes=read_classes(options.classes) if options.classes else None,
        seed=options.seed,
    )


VERBS = {
    "shard": Verb("put the videos into tar files, for object stores and slow file systems", _shard_arguments, _shard),
}
