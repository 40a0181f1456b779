"""``nlnet demo``: makes a small data set on which distant positions matter, trains C2D and the same network with non-local
blocks, tests both on held-out videos and shows the comparison. The same command again goes on, or answers at once."""

import argparse
import os
import sys
from collections.abc import Sequence

from nlnet.cli import sweep


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet demo", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each network; 3 gives error bars")
    parser.add_argument("--out", default="demo", help="folder for the videos, the runs and the report")
    options = parser.parse_args(arguments)
    print(
        "C2D against C2D with non-local blocks, on videos in which the class is a relation between two objects that "
        "are never seen together.\nChance is 50%.",
        file=sys.stderr,
    )
    seeds = ",".join(str(seed) for seed in range(options.seeds))
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    return sweep.main(
        [
            "sweep=demo",
            f"sweep.seeds=[{seeds}]",
            f"sweeps={options.out}",
            f"data.root={options.out}/videos",
        ]
    )
