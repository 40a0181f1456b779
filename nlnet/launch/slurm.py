"""Runs as jobs of Slurm: a batch script for one run, submitit's jobs for the many of a sweep.

A job that is about to be taken away gets SIGUSR1, saves, leaves with the code for "preempted" and goes back into the
queue; started again, the same command goes on from the checkpoint.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlnet.errors import ConfigError

PREEMPTED = 75  # exit code of a run that has saved and can go on


@dataclass(frozen=True)
class Slurm:
    """Starts runs as jobs of Slurm, ``nodes`` x ``processes`` processes each.

    Args:
        processes: on each node, one for each GPU.
        nodes: machines of each job.
        gpus: for each process; 0 for CPUs alone.
        cpus: cores for each process: its decoding workers and itself.
        minutes: after which Slurm ends the job; it is queued again, and goes on.
        warning_s: seconds before that end, at which the run is told to save and leave.
        options: of sbatch, by their long names: ``{partition: gpu, account: vision, mem: 64G}``.
        poll_s: seconds between two looks at a job of a sweep.
    """

    processes: int = 1
    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    minutes: int = 1440
    warning_s: int = 120
    options: Mapping[str, str | int] = field(default_factory=dict)
    poll_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("processes", "nodes", "cpus", "minutes", "warning_s"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of a Slurm job must be at least 1, not {getattr(self, name)}")
        if self.gpus < 0:
            raise ConfigError(f"gpus of a Slurm job must be at least 0, not {self.gpus}")

    def script(self, arguments: Sequence[str], *, name: str, folder: Path) -> str:
        """The batch script of a job: ``nlnet ARGUMENTS`` in each process, and back into the queue when preempted."""
        options: dict[str, str | int | None] = {
            "job-name": name,
            "nodes": self.nodes,
            "ntasks-per-node": self.processes,
            "cpus-per-task": self.cpus,
            **({"gpus-per-node": self.gpus * self.processes} if self.gpus else {}),
            "time": self.minutes,
            "output": f"{folder}/slurm-%j.log",
            "open-mode": "append",
            "requeue": None,
            "signal": f"USR1@{self.warning_s}",
            **self.options,
        }
        header = [f"#SBATCH --{key}" + ("" if value is None else f"={value}") for key, value in options.items()]
        command = shlex.join([sys.executable, "-m", "nlnet", *arguments])
        return _SCRIPT.format(
            header="\n".join(header), threads=_threads(self.processes * self.nodes), command=command, code=PREEMPTED
        )

    def submit(self, arguments: Sequence[str], *, name: str, folder: Path) -> int:
        """Writes ``FOLDER/slurm.sh`` and hands it to sbatch -> the job's number.

        Raises:
            ConfigError: there is no sbatch, or it refuses the job.
        """
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "slurm.sh"
        path.write_text(self.script(arguments, name=name, folder=folder), encoding="utf-8")
        return int(_ask("sbatch", "--parsable", str(path)).partition(";")[0])

    def start(self, arguments: Sequence[str], *, folder: Path, say: Callable[[str], None]) -> "SlurmJob":
        submitit = _submitit()
        try:
            executor = submitit.SlurmExecutor(folder=folder / "slurm", max_num_timeout=1000)
        except RuntimeError as error:
            raise ConfigError("Slurm is not here (no srun); start runs on this machine, or on a login node") from error
        executor.update_parameters(
            job_name=f"{folder.parent.name}-{folder.name}",
            nodes=self.nodes,
            ntasks_per_node=self.processes,
            cpus_per_task=self.cpus,
            **({"gpus_per_node": self.gpus * self.processes} if self.gpus else {}),
            time=self.minutes,
            signal_delay_s=self.warning_s,
            stderr_to_stdout=True,
            setup=[f"export {line}" for line in _threads(self.processes * self.nodes).split()],
            additional_parameters={"requeue": True, **self.options},
        )
        return SlurmJob(executor, Task([sys.executable, "-m", "nlnet", *arguments]), say=say, poll_s=self.poll_s)


class SlurmJob:
    """A job of submitit's; queued again as often as it is preempted."""

    def __init__(self, executor: Any, task: "Task", *, say: Callable[[str], None], poll_s: float) -> None:
        self.executor, self.task, self.say, self.poll_s = executor, task, say, poll_s
        self.stopped = False
        self._submit()

    def _submit(self) -> None:
        try:
            self.job = self.executor.submit(self.task)
        except Exception as error:  # submitit has an error of its own, from what sbatch said
            raise ConfigError(f"Slurm refuses the job: {_one_line(str(error))}") from error
        self.say(f"Slurm job {self.job.job_id}, log {self.job.paths.stdout}")

    def wait(self) -> int:
        while True:
            code = self._wait_once()
            if code != PREEMPTED or self.stopped:
                return code
            self.say("preempted; queued again")
            self._submit()
            if self.stopped:  # meanwhile: ``stop`` has cancelled the job before
                self.job.cancel()

    def stop(self) -> None:
        self.stopped = True
        self.job.cancel()

    def _wait_once(self) -> int:
        first = self.job.task(0)  # of the job's processes; all of them end alike
        result = first.paths.result_pickle
        while not result.exists():
            # Slurm's accounting, which submitit would ask, is off on many small clusters; the queue itself is not.
            if not _in_queue(self.job.job_id):
                time.sleep(self.poll_s)  # a shared file system may show the result late
                if not result.exists():
                    self.say(f"Slurm job {self.job.job_id} is gone without a result; see {self.job.paths.stdout}")
                    return -signal.SIGTERM if self.stopped else 1
                break
            time.sleep(self.poll_s)
        if (error := first.exception()) is not None:
            self.say(f"Slurm job {self.job.job_id} failed: {_one_line(str(error))}")
            return 1
        return int(first.result())


class Task:
    """What each process of a submitit job runs: a command, told by SIGUSR1 when the job is to be taken away."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Runs the command -> its exit code."""
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        # A session of its own: the signals of the job are for submitit, which calls ``checkpoint``.
        self.process = subprocess.Popen(self.command, start_new_session=True)
        while True:
            try:
                return self.process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                continue

    def checkpoint(self) -> Any:
        """Called by submitit in a signal handler of the first process: has the run saved and ended."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            # Not ``Popen.wait``: the handler may have interrupted one that holds its lock.
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self.command))


def _threads(processes: int) -> str:
    """As torchrun does it: one thread for each of several processes, unless the user has chosen."""
    return "OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}" if processes > 1 else ""


def _ask(*command: str) -> str:
    """What a command of Slurm answers."""
    if shutil.which(command[0]) is None:
        raise ConfigError(f"{command[0]} is not here; submit jobs on a machine of a Slurm cluster")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ConfigError(f"{command[0]} refuses the job: {_one_line(result.stderr)}")
    return result.stdout.strip()


def _in_queue(job: str) -> bool:
    result = subprocess.run(
        ["squeue", "--noheader", "--format=%T", f"--jobs={job}"], capture_output=True, text=True, check=False
    )
    if result.returncode and "Invalid job id" not in result.stderr:
        return True  # Slurm does not answer just now
    return any(not re.match("COMPLETED|CANCELLED|FAILED|TIMEOUT|NODE_FAIL", line) for line in result.stdout.split())


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("jobs of a sweep need submitit: pip install 'nlnet[slurm]'") from error
    return submitit


_SCRIPT = """#!/bin/bash
{header}
# Written by `nlnet launch slurm`. Hand it to sbatch again at any time: the run goes on from its last checkpoint.
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE {threads}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# A process that ends early does not take the others along at once: they may be saving.
srun --kill-on-bad-exit=0 --wait=300 bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec "$0" "$@"' \\
    {command}
code=$?
# Preempted, and saved: back into the queue. Started again, the run goes on from its checkpoint.
if [ "$code" -eq {code} ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""
