"""``nlnet benchmark NAME [options] [overrides]``: what networks, blocks, loading and training cost."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nlnet import distributed
from nlnet.benchmark import BENCHMARKS
from nlnet.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    listed = "\n".join(f"  {name:<8}{what}" for name, what in BENCHMARKS.items())
    parser = Parser(
        prog="nlnet benchmark",
        description=f"{__doc__}\n\n{listed}\n\nnlnet benchmark NAME --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    name = parser.parse_args(arguments).benchmark
    benchmark = import_module(f"nlnet.benchmark.{name}")
    parser = Parser(prog=f"nlnet benchmark {name}", description=benchmark.__doc__)
    benchmark.add_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, with the machine, here too")
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    options = parser.parse_intermixed_args(arguments[1:])
    report = benchmark.run(options)
    print(report.text(markdown=options.markdown))
    if options.json:
        report.write(options.json, name=name, device=distributed.device(getattr(options, "device", "auto")))
    return 0
