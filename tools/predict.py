"""``python tools/predict.py …`` is ``nlnet predict …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("predict"))
