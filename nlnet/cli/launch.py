"""``nlnet launch local|slurm … VERB …``: starts a command in several processes here, or as a job of Slurm.

    nlnet launch local --processes 8 train experiment=i3d_nl5_r50_8x8 data.root=/videos
    nlnet launch slurm --nodes 2 --processes 8 --partition gpu train experiment=i3d_nl5_r50_8x8 data.root=/videos

A job that Slurm takes away, or that reaches its time limit, saves, goes back into the queue and goes on from there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nlnet.cli.arguments import Parser
from nlnet.config.compose import check, compose
from nlnet.config.preflight import check_run
from nlnet.config.train import run_folder
from nlnet.errors import ConfigError
from nlnet.launch import Local, Slurm


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    places = parser.add_subparsers(dest="place", required=True, parser_class=Parser)
    here = places.add_parser("local", help="on this machine, under torchrun")
    cluster = places.add_parser("slurm", help="as a batch job")
    for place in (here, cluster):
        place.add_argument("--processes", type=int, default=1, help="on each machine, one for each GPU (default: 1)")
    cluster.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    cluster.add_argument("--gpus", type=int, default=1, help="for each process; 0 for CPUs alone (default: 1)")
    cluster.add_argument("--cpus", type=int, default=8, help="cores for each process (default: 8)")
    cluster.add_argument("--minutes", type=int, default=1440, help="time limit of one turn (default: 1440)")
    cluster.add_argument("--partition", help="of the cluster")
    cluster.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION=VALUE", help="any other option, such as account=vision"
    )
    cluster.add_argument("--dry-run", action="store_true", help="print the batch script and stop")
    for place in (here, cluster):
        place.add_argument("command", nargs=argparse.REMAINDER, metavar="VERB …", help="as behind nlnet")
    options = parser.parse_args(arguments)
    if not options.command:
        raise ConfigError(f"what is to be started? nlnet launch {options.place} train experiment=…")
    if options.place == "local":
        return _local(options)
    return _slurm(options)


def _local(options: argparse.Namespace) -> int:
    launcher = Local(options.processes)
    job = launcher.start(options.command, folder=Path(), say=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        return job.wait()
    except KeyboardInterrupt:
        job.stop()
        raise


def _slurm(options: argparse.Namespace) -> int:
    extra = dict(_option(each) for each in options.sbatch)
    if options.partition:
        extra["partition"] = options.partition
    launcher = Slurm(
        processes=options.processes,
        nodes=options.nodes,
        gpus=options.gpus,
        cpus=options.cpus,
        minutes=options.minutes,
        options=extra,
    )
    folder = _folder(options.command, processes=options.processes * options.nodes)
    name = f"{folder.parent.name}-{folder.name}"
    if options.dry_run:
        print(launcher.script(options.command, name=name, folder=folder.resolve()), end="")
        return 0
    job = launcher.submit(options.command, name=name, folder=folder)
    print(f"Slurm job {job}: {folder}/slurm.sh, log {folder}/slurm-{job}.log")
    return 0


def _option(text: str) -> tuple[str, str | int]:
    key, equals, value = text.lstrip("-").partition("=")
    if not equals:
        raise ConfigError(f"--sbatch {text}: options are written OPTION=VALUE, such as account=vision")
    return key, value


def _folder(command: Sequence[str], *, processes: int) -> Path:
    """Where the job keeps its script and log: the run folder of a training, after its config is found to be right.

    A mistake should show now, and not hours later when the job's turn has come.
    """
    verb, *rest = command
    if verb != "train":
        return Path("slurm") / verb
    parser = Parser(prog="nlnet train")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir")
    options = parser.parse_intermixed_args(rest)
    config = compose("train", options.overrides, config_dir=options.config_dir)
    check(config)
    check_run(config, processes=processes)
    return run_folder(config)
