"""``python tools/train.py …`` is ``nlnet train …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("train"))
