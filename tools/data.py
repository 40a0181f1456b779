"""``python tools/data.py …`` is ``nlnet data …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("data"))
