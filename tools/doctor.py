"""``python tools/doctor.py …`` is ``nlnet doctor …``."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("doctor"))
