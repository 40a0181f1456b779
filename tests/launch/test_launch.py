"""Launchers without a cluster: the command lines and scripts that they make, and what they say where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlnet.cli import run
from nlnet.errors import ConfigError
from nlnet.launch import Local, Slurm


def test_one_process_here_needs_no_torchrun() -> None:
    assert Local().command(["train", "a=b c"]) == [sys.executable, "-m", "nlnet", "train", "a=b c"]


def test_several_processes_here_are_told_of_signals() -> None:
    command = Local(3).command(["train"])
    assert "--nproc-per-node=3" in command
    assert command[command.index("--signals-to-handle") + 1] == "SIGTERM,SIGINT,SIGUSR1"
    assert command[-3:] == ["-m", "nlnet", "train"]


def test_a_run_here_says_its_lines_and_has_an_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    job = Local(threads=1).start(["train", "optim.lrr=1"], folder=tmp_path, say=said.append)
    assert job.wait() == 2
    assert "did you mean 'optim.lr'" in said[-1]


def test_a_run_here_that_is_stopped_ends(tmp_path: Path) -> None:
    job = Local().start(["train", "data.root=/"], folder=tmp_path, say=lambda line: None)
    job.stop()
    assert job.wait() != 0


@pytest.mark.parametrize("code", [0, 3, 75])
def test_the_script_gives_each_process_its_place_and_queues_a_preempted_job_again(code: int, tmp_path: Path) -> None:
    """Run by bash with stand-ins for the commands of Slurm, which write down how they were called."""
    script = Slurm(processes=2, nodes=3, options={"partition": "gpu"}).script(
        ["train", "name=a b"], name="a-s0", folder=tmp_path
    )
    commands = tmp_path / "bin"
    commands.mkdir()
    stand_ins = {
        "srun": f'for n in 4 5; do SLURM_PROCID=$n SLURM_LOCALID=$((n % 2)) "${{@:3}}"; done; exit {code}',
        "scontrol": 'if [ "$1" = show ]; then printf "one\\ntwo\\n"; else echo "$@" >> "$CALLS"; fi',
        "python": 'echo "$MASTER_ADDR $MASTER_PORT $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $4" >> "$CALLS"',
    }
    for name, text in stand_ins.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (commands / name).chmod(0o755)
    script = script.replace(sys.executable, str(commands / "python"))
    result = subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": f"{commands}:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            **{"SLURM_JOB_ID": "40007", "SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "8"},
            "SLURM_JOB_NODELIST": "any",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:2] == ["one 20007 4 0 6 2 name=a b", "one 20007 5 1 6 2 name=a b"]
    assert calls[2:] == (["requeue 40007"] if code == 75 else [])
    for option in ("--nodes=3", "--ntasks-per-node=2", "--gpus-per-node=2", "--requeue", "--partition=gpu"):
        assert f"#SBATCH {option}\n" in script


def test_without_a_cluster_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch is not here"):
        Slurm().submit(["train"], name="x", folder=tmp_path)
    pytest.importorskip("submitit")
    with pytest.raises(ConfigError, match="Slurm is not here"):
        Slurm().start(["train"], folder=tmp_path, say=print)


def test_a_job_can_be_looked_at_before_it_is_submitted(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("launch", ["slurm", "--dry-run", "--processes", "2", "--sbatch", "account=vision", "train", *small]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --account=vision\n" in script
    assert f"#SBATCH --output={tmp_path}/runs/c2d_small-folder/s0/slurm-%j.log\n" in script
    assert not list(tmp_path.iterdir())
    assert run("launch", ["slurm", "--dry-run", "--processes", "4", "train", *small]) == 2
    assert "set trainer.batch_size=4" in capsys.readouterr().err
