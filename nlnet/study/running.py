"""Training the runs of a sweep, several side by side, each once, whatever happens to this process or to one of them."""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from nlnet.errors import ConfigError
from nlnet.launch import Job, Launcher
from nlnet.launch.local import LocalJob
from nlnet.study.locks import RunLock
from nlnet.study.sweep import Run

INTERRUPTED, PREEMPTED = 130, 75  # exit codes, see nlnet.errors
LOOK_S = 1.0  # between two looks at a run that another sweep trains


def slots(parallel: int | None, *, processes: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """What each of the runs side by side finds in its environment: its GPUs, or its share of the CPU's threads.

    Several small networks train faster next to each other than one after the other on all threads. An OMP_NUM_THREADS
    that is set already stays.

    Args:
        parallel: runs side by side; None for as many as there are GPUs for, or one.
        processes: of each run, a GPU for each.
        gpus: names as in CUDA_VISIBLE_DEVICES.

    Raises:
        ConfigError: there are GPUs, but not enough.
    """
    if gpus and processes * (parallel or 1) > len(gpus):
        raise ConfigError(
            f"sweep.parallel={parallel or 1} runs of sweep.processes={processes} need {processes * (parallel or 1)} "
            f"GPUs; there are {len(gpus)}"
        )
    count = parallel or max(1, len(gpus) // processes)
    if gpus and count > 1:
        shares = [gpus[index * processes : (index + 1) * processes] for index in range(count)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]
    threads = max(1, (os.cpu_count() or 1) // (count * processes))
    return [{"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}] * count


def run_all(
    runs: Sequence[Run],
    *,
    slots: Sequence[Mapping[str, str]] = ({},),
    launcher: Launcher | None = None,
    say: Callable[[str], None],
) -> list[Run]:
    """Trains what is not done yet, as many runs side by side as there are slots, and returns the runs that failed.

    A run that another sweep trains is left to it and looked at again at the end: if it was not finished there, it is
    trained here. ``launcher`` starts the runs; None starts them on this machine.
    """
    runner = _Runner(runs, slots, launcher, say)
    with ThreadPoolExecutor(max_workers=len(slots)) as pool:
        trainings: list[Future[bool]] = []
        try:
            trainings += [pool.submit(runner.train, number) for number in range(len(runs))]
            elsewhere = [number for number, training in enumerate(trainings) if not training.result()]
            trainings += [pool.submit(runner.await_other, number) for number in elsewhere]
            for training in trainings:
                training.result()
        except BaseException:
            runner.stop()
            for training in trainings:
                training.cancel()  # those that have not begun
            raise
    return runner.failed


class _Runner:
    """The runs of one ``run_all`` and what became of them; its methods are called by several threads."""

    def __init__(
        self,
        runs: Sequence[Run],
        slots: Sequence[Mapping[str, str]],
        launcher: Launcher | None,
        say: Callable[[str], None],
    ) -> None:
        self.runs, self.launcher, self.say = runs, launcher, say
        self.failed: list[Run] = []
        self.jobs: set[Job] = set()
        self.stopped = threading.Event()
        self.free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for slot in slots:
            self.free.put(slot)

    def title(self, number: int) -> str:
        run = self.runs[number]
        return f"[{number + 1}/{len(self.runs)} {run.row} seed {run.seed}]"

    def train(self, number: int) -> bool:
        """Trains a run unless it is done; False where another sweep has it."""
        run, title = self.runs[number], self.title(number)
        lock = RunLock(run.folder)
        if self.stopped.is_set():
            return True
        if run.state() == "DONE":
            self.say(f"{title} done before")
            return True
        if not lock.take():
            self.say(f"{title} is trained by another sweep")
            return False
        try:
            if run.state() == "DONE":  # by the other sweep, since the look above
                self.say(f"{title} done before")
            else:
                self._train(run, title, lock)
        finally:
            lock.release()
        return True

    def await_other(self, number: int) -> bool:
        """Waits for the sweep that has a run, and trains the run if it was not finished there."""
        while not self.train_quietly(number):
            if self.stopped.wait(LOOK_S):
                return False
        return True

    def train_quietly(self, number: int) -> bool:
        """``train``, without a word as long as the other sweep has the run."""
        lock = RunLock(self.runs[number].folder)
        if not lock.take():
            return False
        lock.release()
        return self.train(number)

    def _train(self, run: Run, title: str, lock: RunLock) -> None:
        self.say(f"{title} {'goes on' if run.state() else 'starts'}")
        slot = self.free.get()
        try:
            job = self._start(run, slot, lock, lambda line: self.say(f"{title} {line}"))
            self.jobs.add(job)
            if self.stopped.is_set():  # while it started: ``stop`` may have looked before the job was there
                job.stop()
            code = job.wait()
            self.jobs.discard(job)
        finally:
            self.free.put(slot)
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # the user, or whoever interrupted the run, means the sweep
        if code and not self.stopped.is_set():
            self.failed.append(run)
            self.say(f"{title} {_why(code)}; the other runs go on")

    def _start(self, run: Run, slot: Mapping[str, str], lock: RunLock, say: Callable[[str], None]) -> Job:
        if self.launcher is not None:
            return self.launcher.start(run.arguments, folder=run.folder, say=say)
        process = subprocess.Popen(
            run.command,
            env={**os.environ, **slot},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=[lock.file] if lock.file is not None else [],
        )
        return LocalJob(process, say)

    def stop(self) -> None:
        """Ends what runs and lets nothing begin."""
        self.stopped.set()
        for job in list(self.jobs):
            job.stop()


def _why(code: int) -> str:
    """An exit code in words."""
    if code == PREEMPTED:
        return "was asked to stop, and goes on when the sweep is started again"
    if code < 0:
        return f"was killed by signal {-code}{' (out of memory?)' if code == -9 else ''}"
    return f"failed with exit code {code}"
