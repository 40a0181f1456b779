"""``python tools/benchmark.py …`` is ``nlnet benchmark …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("benchmark"))
