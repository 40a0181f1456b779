"""``nlnet demo``: C2D against the same network with a non-local block, where distant positions matter.

Makes a small synthetic data set, trains both, tests them on held-out videos and shows the comparison and a report. The
same command again goes on after an interruption, or answers at once.
"""

import argparse
import sys
from collections.abc import Sequence

from nlnet.cli import sweep
from nlnet.cli.arguments import Parser

INTRODUCTION = """\
In these videos one object appears at the start in one corner and another at the end in the opposite corner. The class
says whether they share their hue and their brightness: four classes, chance is 25%. No frame shows both, so C2D, which
looks at single frames and averages, cannot know it; a non-local block compares distant positions.
"""


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides for every run")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each network; 3 gives error bars")
    parser.add_argument("--out", default=".", help="folder for data/synthetic, with the videos, and sweeps/demo")
    options = parser.parse_intermixed_args(arguments)
    print(INTRODUCTION, file=sys.stderr)
    seeds = ",".join(str(seed) for seed in range(options.seeds))
    places = [f"sweeps={options.out}/sweeps", f"data.root={options.out}/data/synthetic"]
    return sweep.main(["--no-probe", "sweep=demo", f"sweep.seeds=[{seeds}]", *places, *options.overrides])
