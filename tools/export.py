"""``python tools/export.py …`` is ``nlnet export …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("export"))
