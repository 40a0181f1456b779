"""Running a sweep: each run once, whoever else is at work in its folder, and whatever becomes of a run."""

import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nlnet.errors import ConfigError
from nlnet.launch import Job
from nlnet.study import running
from nlnet.study.locks import RunLock
from nlnet.study.running import run_all, slots
from nlnet.study.sweep import Run

DONE = 'mkdir -p {0} && echo run >> {0}/count && echo \'{{"state": "DONE"}}\' > {0}/status.json'


def fake_run(folder: Path, script: str = DONE) -> Run:
    return Run(folder.name, 0, folder, ["sh", "-c", script.format(folder)], ["train", "a=b"])


def times_run(folder: Path) -> int:
    return len((folder / "count").read_text().split()) if (folder / "count").exists() else 0


def test_a_run_that_is_killed_does_not_stop_the_others(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "killed", "kill -9 $$"), fake_run(tmp_path / "whole")]
    said: list[str] = []
    assert [run.row for run in run_all(runs, say=said.append)] == ["killed"]
    assert times_run(tmp_path / "whole") == 1
    assert any("was killed by signal 9 (out of memory?)" in line for line in said)


def test_a_preempted_run_goes_on_at_the_next_start(tmp_path: Path) -> None:
    said: list[str] = []
    assert len(run_all([fake_run(tmp_path / "a", "exit 75")], say=said.append)) == 1
    assert "goes on when the sweep is started again" in said[-1]


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_another_sweep_is_left_to_it_and_taken_over_if_it_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    monkeypatch.setattr(running, "LOOK_S", 0.01)
    theirs, ours = fake_run(tmp_path / "theirs"), fake_run(tmp_path / "ours")
    lock = RunLock(theirs.folder)
    assert lock.take()
    seen = threading.Event()

    def say(line: str) -> None:
        if "is trained by another sweep" in line:
            seen.set()

    thread = threading.Thread(target=run_all, args=([theirs, ours],), kwargs={"say": say})
    thread.start()
    assert seen.wait(60)
    if finished:
        subprocess.run(theirs.command, check=True)
    lock.release()
    thread.join(60)
    assert not thread.is_alive()
    assert times_run(theirs.folder) == times_run(ours.folder) == 1


def test_two_sweeps_in_one_folder_train_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_S", 0.01)
    runs = [fake_run(tmp_path / f"r{number}") for number in range(8)]
    sweeps = [
        threading.Thread(target=run_all, args=(order,), kwargs={"slots": [{}, {}], "say": lambda text: None})
        for order in (runs, runs[::-1])
    ]
    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join(60)
    assert [times_run(run.folder) for run in runs] == [1] * 8


def test_a_run_that_outlives_its_sweep_keeps_its_lock_and_nothing_else_does(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "s0")
    assert lock.take()
    assert lock.file is not None
    orphan = subprocess.Popen(["sleep", "600"], pass_fds=[lock.file])
    lock.release()  # as if the sweep had been killed
    assert not RunLock(tmp_path / "s0").take()
    orphan.kill()
    orphan.wait()
    again = RunLock(tmp_path / "s0")  # the file is still there; its holder is not
    assert again.take()
    again.release()


def test_each_run_has_gpus_of_its_own() -> None:
    assert slots(None, processes=2, gpus=["0", "1", "4", "5", "6"]) == [
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "4,5"},
    ]
    assert len(slots(3, processes=1, gpus=["0", "1", "2"])) == 3
    with pytest.raises(ConfigError, match=r"sweep.parallel=3 runs of sweep.processes=2 need 6 GPUs; there are 4"):
        slots(3, processes=2, gpus=list("0123"))


def test_without_gpus_runs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert slots(None, processes=1, gpus=[]) == [{"OMP_NUM_THREADS": "8"}]
    assert slots(2, processes=2, gpus=[]) == [{"OMP_NUM_THREADS": "2"}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slots(4, processes=1, gpus=[])[0] == {"OMP_NUM_THREADS": "3"}


def test_the_environment_of_a_slot_reaches_its_runs(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / name, "mkdir -p {0} && echo $CUDA_VISIBLE_DEVICES > {0}/gpu") for name in "ab"]
    assert run_all(runs, slots=[{"CUDA_VISIBLE_DEVICES": "7"}], say=lambda text: None) == []
    assert [(run.folder / "gpu").read_text() for run in runs] == ["7\n", "7\n"]


class Elsewhere:
    """A launcher whose jobs are done at once; it notes what it was asked to start."""

    def __init__(self) -> None:
        self.started: list[tuple[list[str], Path]] = []

    def start(self, arguments: list[str], *, folder: Path, say: Callable[[str], None]) -> Job:
        self.started.append((list(arguments), folder))
        say("submitted")
        return self

    def wait(self) -> int:
        return 3

    def stop(self) -> None: ...


def test_a_launcher_starts_the_runs_where_it_wants(tmp_path: Path) -> None:
    launcher, said = Elsewhere(), list[str]()
    run = fake_run(tmp_path / "a")
    assert run_all([run], launcher=launcher, say=said.append) == [run]  # type: ignore[arg-type]
    assert launcher.started == [(["train", "a=b"], tmp_path / "a")]
    assert "[1/1 a seed 0] submitted" in said
    assert times_run(tmp_path / "a") == 0


class Slow:
    """A launcher with a job that is interrupted, and told to stop, before ``start`` has returned it."""

    def __init__(self) -> None:
        self.all_stopped, self.ended = threading.Event(), threading.Event()

    def start(self, arguments: list[str], *, folder: Path, say: Callable[[str], None]) -> Job:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        assert self.all_stopped.wait(timeout=60)
        return self

    def wait(self) -> int:
        return 0 if self.ended.wait(timeout=60) else 1

    def stop(self) -> None:
        self.ended.set()


def test_a_run_that_is_just_starting_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher, stop = Slow(), running._Runner.stop

    def stop_all(runner: running._Runner) -> None:
        stop(runner)
        launcher.all_stopped.set()

    monkeypatch.setattr(running._Runner, "stop", stop_all)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ``nlnet sweep`` does
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all([fake_run(tmp_path / "a")], launcher=launcher, say=lambda text: None)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert launcher.ended.is_set()
