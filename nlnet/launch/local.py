"""Processes on this machine: one, or several under torchrun."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlnet.errors import ConfigError


@dataclass(frozen=True)
class Local:
    """Starts runs on this machine.

    Args:
        processes: of each run, one for each GPU.
        threads: of each process on the CPU (OMP_NUM_THREADS, unless that is set already); None leaves it alone.
    """

    processes: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"processes must be at least 1, not {self.processes}")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that starts ``nlnet ARGUMENTS``."""
        if self.processes == 1:
            return [sys.executable, "-m", "nlnet", *arguments]
        # Signals that ask for a checkpoint are passed on to the processes; torchrun itself would die of SIGUSR1.
        torchrun = [
            *("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}"),
            *("--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1"),
        ]
        return [sys.executable, *torchrun, "-m", "nlnet", *arguments]

    def start(self, arguments: Sequence[str], *, folder: Path, say: Callable[[str], None]) -> "LocalJob":
        environment: Mapping[str, str] = os.environ
        if self.threads is not None:
            environment = {"OMP_NUM_THREADS": str(self.threads), **os.environ}
        process = subprocess.Popen(
            self.command(arguments), env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        return LocalJob(process, say)


class LocalJob:
    """A run on this machine; what it writes to stderr is said line by line."""

    def __init__(self, process: "subprocess.Popen[str]", say: Callable[[str], None]) -> None:
        self.process = process
        self.say = say

    def wait(self) -> int:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.say(line.rstrip())
        return self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
