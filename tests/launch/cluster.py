"""A Slurm of one machine for tests: munge, slurmctld and slurmd in a folder of their own, started and stopped here.

By hand: ``python -m tests.launch.cluster`` starts one and says which variables point to it, until Ctrl-C.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")

# cons_tres with cores as the only resource; processes are found by their parents, as containers have no cgroups to
# give; the credential of a job expires soon, because a job that is queued again has to wait for that.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=300
KillWait=10
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own is started as root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Starts Slurm; gives the environment variables with which its commands find it; ends it with all its jobs."""
    with tempfile.TemporaryDirectory(prefix="nlnet-slurm-") as folder:
        Path(folder).chmod(0o755)  # munge's socket must be in reach of everybody
        yield from _running(Path(folder))


def _running(folder: Path) -> Iterator[dict[str, str]]:
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    config = folder / "slurm.conf"
    ports = dict(zip(("controller", "daemon"), _free_ports(2), strict=True))
    config.write_text(CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder, **ports))
    (folder / "plugstack.conf").write_text("")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    environment = {"SLURM_CONF": str(config), "PATH": _path()}
    munged = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/seed"]
    daemons = [munged, ["slurmctld", "-D"], ["slurmd", "-D"]]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            log = (folder / f"{command[0]}.out").open("wb")
            running.append(
                subprocess.Popen(
                    command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
                )
            )
            if command is munged:
                _wait_until((folder / "munge.socket").exists, running, folder)
        _wait_until(lambda: _ask("sinfo -h -o %t", environment).startswith("idle"), running, folder)
        yield environment
    finally:
        _ask("scancel --signal=KILL --full -u root", environment)
        _ask("scancel -u root", environment)
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _path() -> str:
    """Daemons are in sbin, which is not on every path."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _ask(command: str, environment: dict[str, str]) -> str:
    result = subprocess.run(
        command.split(), env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    return result.stdout


def _wait_until(
    true: Callable[[], bool], daemons: list["subprocess.Popen[bytes]"], folder: Path, *, limit_s: float = 120
) -> None:
    """Waits for the daemons; their logs are in the error if one of them ends, or nothing comes of it."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
            logs = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in sorted(folder.glob("*.out")))
            raise RuntimeError(f"Slurm does not come up\n{logs}")
        time.sleep(0.1)


if __name__ == "__main__":
    with cluster() as variables:
        print(" ".join(f"{name}={value}" for name, value in variables.items()), flush=True)
        signal.pause()
