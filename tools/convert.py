"""``python tools/convert.py …`` is ``nlnet convert …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("convert"))
