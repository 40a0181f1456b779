"""``python tools/visualize.py …`` is ``nlnet visualize …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("visualize"))
