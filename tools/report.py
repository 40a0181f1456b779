"""``python tools/report.py …`` is ``nlnet report …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("report"))
