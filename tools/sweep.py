"""``python tools/sweep.py …`` is ``nlnet sweep …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("sweep"))
