"""``python tools/test.py …`` is ``nlnet test …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("test"))
