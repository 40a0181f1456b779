"""Jobs of two processes under torchrun, on real videos: killed, stopped, asked to stop, started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nlnet.config.models import find_checkpoint
from nlnet.engine.checkpoint import load_checkpoint
from tests.conftest import REPOSITORY, SMALL
from tests.faults.processes import Case

EPOCHS = 30  # of 4 steps
OPTIONS = [*SMALL, f"trainer.epochs={EPOCHS}", "trainer.checkpoint_every=1", "trainer.validate_every=10"]


class Job:
    """``torchrun tools/train.py …`` in the background."""

    def __init__(
        self, home: Path, name: str, options: Sequence[str], launch: Sequence[str] = (), world: int = 2
    ) -> None:
        self.home, self.name, self.world = home, name, world
        self.folder = home / "runs" / name / "s0"
        self.log = home / f"{name}.log"
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", *launch]
        command = [sys.executable, *(torchrun if world > 1 else []), str(REPOSITORY / "tools" / "train.py")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, *OPTIONS, *options, f"name={name}", f"runs={home}/runs"],
                cwd=home,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def step(self) -> int:
        """Of the newest checkpoint."""
        try:
            return int(json.loads((self.folder / "checkpoints" / "last.json").read_text())["step"])
        except (OSError, ValueError):
            return 0

    def reach(self, step: int, *, within_s: float = 180) -> bool:
        deadline = time.monotonic() + within_s
        while self.step() < step and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.step() >= step and self.process.poll() is None

    def ranks(self) -> list[int]:
        """Process numbers of the ranks, in their order."""
        if self.world == 1:
            return [self.process.pid]
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"name={self.name}" in (entry / "cmdline").read_text().split("\0"):
                    pairs = dict(
                        pair.split("=", 1) for pair in (entry / "environ").read_text().split("\0") if "=" in pair
                    )
                    status = (entry / "status").read_text()
                    parent = int(status.split("PPid:")[1].split()[0])
                    if "RANK" in pairs and parent == self.process.pid:
                        found[int(pairs["RANK"])] = int(entry.name)
            except (OSError, ValueError):
                continue
        return [found[rank] for rank in sorted(found)]

    def wait(self, within_s: float = 180) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -999

    def kill(self) -> None:
        """Everything of it: torchrun, the ranks, their workers."""
        for pid in [self.process.pid, *self.ranks()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        self.process.wait()

    def status(self) -> dict[str, str]:
        try:
            status: dict[str, str] = json.loads((self.folder / "status.json").read_text())
            return status
        except (OSError, ValueError):
            return {}

    def weights(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = load_checkpoint(find_checkpoint(self.folder))["model"]
        return state


class Bench:
    """One job after the other, each against the weights of the job that nothing happened to."""

    def __init__(self, home: Path, videos: Path) -> None:
        self.home, self.root = home, f"data.root={videos}"
        home.mkdir(parents=True, exist_ok=True)
        self.whole: dict[int, dict[str, torch.Tensor]] = {}

    def reference(self, world: int) -> dict[str, torch.Tensor]:
        if world not in self.whole:
            job = Job(self.home, f"whole{world}", [self.root], world=world)
            assert job.wait(300) == 0, job.log.read_text()[-3000:]
            self.whole[world] = job.weights()
        return self.whole[world]

    def case(
        self,
        name: str,
        harm: Callable[[Job], object],
        *,
        state: str,
        says: str = "",
        codes: Sequence[int] = (1,),
        options: Sequence[str] = (),
        launch: Sequence[str] = (),
        world: int = 2,
        stacks: Sequence[int] = (),
        resumes: bool = True,
        at: int = 20,
    ) -> Case:
        """Harm at a step; then how the job ended and what its status says; then the same command again."""
        whole = self.reference(world)
        job = Job(self.home, name.replace(" ", "_").replace("/", "_"), [self.root, *options], launch, world)
        if not job.reach(at):
            job.kill()
            return name, False, f"never came to step {at}: {job.log.read_text()[-1500:]}"
        harm(job)
        code = job.wait()
        status, wrong = job.status(), []
        if code not in codes:
            wrong.append(f"exit {code}")
        if status.get("state") != state or says not in status.get("reason", ""):
            wrong.append(f"status {status}")
        for rank in stacks:
            log = job.folder / f"log.rank{rank}.txt"
            if not log.exists() or "most recent call first" not in log.read_text():
                wrong.append(f"no stacks in {log.name}")
        if resumes:
            again = Job(self.home, job.name, [self.root, *options], launch, world)
            if again.wait(300) != 0 or again.status().get("state") != "DONE":
                wrong.append(f"did not go on: {again.status()} {again.log.read_text()[-1500:]}")
        if not wrong:
            last = job.weights()
            if not all(torch.equal(last[key], whole[key]) for key in whole):
                wrong.append("other weights")
        return name, not wrong, "; ".join(wrong)


def send(number: int, *ranks: int) -> Callable[[Job], object]:
    return lambda job: [os.kill(job.ranks()[rank], number) for rank in ranks]


def to_launcher(*numbers: int) -> Callable[[Job], object]:
    def harm(job: Job) -> None:
        for number in numbers:
            job.process.send_signal(number)
            time.sleep(0.05)

    return harm


def workers_of(job: Job, rank: int) -> list[int]:
    parent = job.ranks()[rank]
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def kill_workers(job: Job) -> None:
    for rank in range(job.world):
        for pid in workers_of(job, rank)[:1]:
            os.kill(pid, signal.SIGKILL)


def run_all(home: Path, *, videos: Path, full: bool = True) -> list[Case]:
    bench = Bench(home, videos)
    term, usr1, stop, kill, interrupt = signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP, signal.SIGKILL, signal.SIGINT
    quick = ["step_timeout=6"]
    restarts = ["--max-restarts=3"]
    everything = "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1"
    cases = [
        lambda: bench.case("SIGTERM to torchrun", to_launcher(term), state="PREEMPTED", says="asked to stop"),
        lambda: bench.case(
            "kill -9 of process 1 with --max-restarts", send(kill, 1), state="DONE", codes=(0,), launch=restarts,
            resumes=False,
        ),
        lambda: bench.case("SIGSTOP of process 1", send(stop, 1), state="FAILED", says="sign of life", options=quick,
                           stacks=[0]),
    ]  # fmt: skip
    if full:
        cases += [
            lambda: bench.case("kill -9 of process 1", send(kill, 1), state="FAILED", stacks=[0]),
            lambda: bench.case("kill -9 of process 0", send(kill, 0), state="FAILED", says="process 1", stacks=[1]),
            lambda: bench.case("kill -9 of all", Job.kill, state="RUNNING", codes=(-9,)),
            lambda: orphans(bench),
            lambda: bench.case("SIGSTOP of process 0", send(stop, 0), state="FAILED", says="sign of life",
                               options=quick, stacks=[1]),
            lambda: bench.case(
                "kill -9 of process 0 with --max-restarts", send(kill, 0), state="DONE", codes=(0,), launch=restarts,
                resumes=False,
            ),
            lambda: bench.case(
                "three kills with --max-restarts", three_kills, state="DONE", codes=(0,), launch=restarts,
                resumes=False, at=12,
            ),
            lambda: bench.case(
                "SIGSTOP of process 1 with --max-restarts", send(stop, 1), state="DONE", codes=(0,),
                options=quick, launch=restarts, resumes=False,
            ),
            lambda: bench.case("SIGUSR1 to torchrun", to_launcher(usr1), state="PREEMPTED", launch=[everything]),
            lambda: bench.case("SIGTERM to process 0 alone", send(term, 0), state="PREEMPTED"),
            lambda: bench.case("SIGUSR1 to process 1 alone", send(usr1, 1), state="PREEMPTED"),
            lambda: bench.case("SIGTERM twice to both processes", send(term, 0, 1, 0, 1), state="PREEMPTED"),
            lambda: bench.case("SIGTERM to one process", send(term, 0), state="PREEMPTED", codes=(75,), world=1),
            lambda: bench.case("SIGUSR1 to one process", send(usr1, 0), state="PREEMPTED", codes=(75,), world=1),
            lambda: bench.case("SIGINT to one process", send(interrupt, 0), state="FAILED", says="interrupted",
                               codes=(130,), world=1),
            lambda: bench.case("kill -9 of one process", send(kill, 0), state="RUNNING", codes=(-9,), world=1),
            lambda: bench.case("SIGINT to torchrun", to_launcher(interrupt), state="FAILED", codes=(1, -2, 130),
                               says="interrupted"),
            lambda: bench.case(
                "kill -9 of a worker of each process", kill_workers, state="DONE", codes=(0,), options=["workers=1"],
                resumes=False,
            ),
        ]  # fmt: skip
    return [case() for case in cases]


def three_kills(job: Job) -> None:
    for number, rank in enumerate((1, 0, 1)):
        job.reach(12 + 24 * number)
        os.kill(job.ranks()[rank], signal.SIGKILL)


def orphans(bench: Bench) -> Case:
    """The launcher alone is killed: its processes end themselves, or finish; the same command is right either way."""
    name = "kill -9 of torchrun alone"
    job = Job(bench.home, name.replace(" ", "_"), [bench.root])
    if not job.reach(20):
        job.kill()
        return name, False, "never came to step 20"
    ranks = job.ranks()
    job.process.kill()
    job.process.wait()
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in ranks) and time.monotonic() < deadline:
        time.sleep(0.1)
    again = Job(bench.home, job.name, [bench.root])
    code = again.wait(300)
    whole, last = bench.reference(2), again.weights() if code == 0 else {}
    right = code == 0 and all(torch.equal(last[key], whole[key]) for key in whole)
    return name, right, f"exit {code}, {again.status()}"
