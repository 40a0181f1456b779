"""Jobs of a real Slurm: a run that is taken away in the middle comes back and ends as one that was left alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from nlnet.config.models import find_checkpoint
from nlnet.engine.checkpoint import load_checkpoint
from nlnet.launch import Slurm
from tests.conftest import SMALL, run_nlnet
from tests.launch import cluster

pytestmark = pytest.mark.skipif(bool(cluster.missing()), reason=cluster.missing())
LIMIT_S = 240.0


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """Environment variables that point to a cluster of this machine."""
    with cluster.cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, class_folder: Path) -> tuple[Path, list[str]]:
    """A folder with a run at two processes that nothing interrupted, and its overrides."""
    home = tmp_path_factory.mktemp("home")
    options = [*SMALL, f"data.root={class_folder}", "trainer.epochs=24", "trainer.checkpoint_every=2"]
    options += ["trainer.validate_every=24", "trainer.log_every=20"]
    result = run_nlnet("train", *options, "name=whole", cwd=home, processes=2)
    assert result.returncode == 0, result.stderr
    return home, options


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(find_checkpoint(run))["model"]
    return state


def ask(slurm: dict[str, str], *command: str) -> str:
    environment = {**os.environ, **slurm}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def wait_for(true: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}\n{log.read_text() if log.exists() else 'no log'}")
        time.sleep(0.05)


def state(run: Path) -> str:
    try:
        return str(json.loads((run / "status.json").read_text())["state"])
    except (OSError, ValueError):
        return ""


def has_saved(run: Path) -> bool:
    return any(run.glob("checkpoints/step_*.pt.sha256"))


def check_same(one: Path, other: Path) -> None:
    expected, found = weights(one), weights(other)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


@pytest.mark.parametrize("how", ["scancel --signal=USR1", "scontrol requeue"])
def test_a_job_that_is_taken_away_goes_back_into_the_queue_and_on(
    how: str, slurm: dict[str, str], whole: tuple[Path, list[str]]
) -> None:
    home, options = whole
    name = how.split()[0]
    launch = ["launch", "slurm", "--processes", "2", "--gpus", "0", "--cpus", "1", "--minutes", "30", "train"]
    result = subprocess.run(
        [sys.executable, "-m", "nlnet", *launch, *options, f"name={name}"],
        env={**os.environ, **slurm, "OMP_NUM_THREADS": "1"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stderr
    job = result.stdout.split()[2].rstrip(":")
    run = home / "runs" / name / "s0"
    log = run / f"slurm-{job}.log"
    assert f"log runs/{name}/s0/slurm-{job}.log" in result.stdout
    wait_for(lambda: has_saved(run), "the job does not train", log)
    ask(slurm, *how.split(), job)
    wait_for(lambda: state(run) == "DONE", "the job does not come back", log)
    assert "resuming at step" in log.read_text()
    check_same(home / "runs" / "whole" / "s0", run)


def test_a_run_of_a_sweep_is_a_job_too(
    slurm: dict[str, str], whole: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    home, options = whole
    for key, value in {**slurm, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(home)
    run = home / "runs" / "row" / "s0"
    said: list[str] = []
    launcher = Slurm(processes=2, gpus=0, cpus=1, minutes=60, poll_s=0.2)
    job = launcher.start(["train", *options, "name=row"], folder=run, say=said.append)
    log = Path(str(job.job.paths.stdout))
    wait_for(lambda: has_saved(run), "the job does not train", log)
    ask(slurm, "scancel", "--signal=USR2", job.job.job_id)  # what Slurm sends in front of the time limit
    assert job.wait() == 0, log.read_text()
    assert state(run) == "DONE"
    assert "resuming at step" in (run / "log.txt").read_text()
    check_same(home / "runs" / "whole" / "s0", run)


def test_a_job_that_fails_or_is_cancelled_is_said_to_be(
    slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    for key, value in slurm.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    launcher = Slurm(processes=1, gpus=0, cpus=1, minutes=60, poll_s=0.2)
    wrong = launcher.start(["train", "optim.lrr=1"], folder=tmp_path / "wrong", say=said.append)
    assert wrong.wait() == 2
    assert any("Slurm job" in line and "log" in line for line in said)
    blocked = Slurm(gpus=0, cpus=1, options={"begin": "now+1hour"}, poll_s=0.2)
    waiting = blocked.start(["train"], folder=tmp_path / "waiting", say=said.append)
    waiting.stop()
    assert waiting.wait() < 0
