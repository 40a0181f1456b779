"""``python tools/launch.py local|slurm … VERB …``: starts a command in several processes, or as a job of Slurm."""

import sys

from nlnet.cli import run

if __name__ == "__main__":
    sys.exit(run("launch"))
