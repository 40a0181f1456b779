"""How much memory ``nlnet data`` takes for a data set of Kinetics' size: python scripts/prepare_memory.py [videos].

Makes that many one-byte files in a temporary folder (300,000 by default), runs each command on them in a process of its
own, and prints the most memory that each had. check, stats and resize find every one of the files broken, which is when
they have most to write down.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(*arguments: str) -> None:
    """One command -> its peak and time, on the screen."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "nlnet", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"nlnet {' '.join(arguments)}: exit code {os.waitstatus_to_exitcode(status)}")
    print(
        f"{' '.join(arguments[:2]):<12} {usage.ru_maxrss / 1024:7.0f} MB  {time.monotonic() - started:6.1f} s",
        flush=True,
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "videos", Path(folder) / "out"
        for number in range(count):
            path = root / f"class {number % 400}" / f"{number // 2:011d}_{number % 2:06d}_000010.mp4"
            if number < 400:
                path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
        print(f"{count} videos; the program alone, with its libraries:")
        run("data", "--help")
        run("data", "scan", str(root), "--out", str(out))
        lists = [str(out / "train.csv"), str(out / "val.csv")]
        for command in ("check", "stats", "resize"):
            run("data", command, str(root), "--out", str(out / command))
        run("data", "diff", *lists, "--out", str(out), "--by", "source", "--disjoint")
        run("data", "shard", lists[0], "--root", str(root), "--out", str(out), "--megabytes", "0.02")


if __name__ == "__main__":
    main()
