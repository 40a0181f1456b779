"""Sweeps: one run for each row and seed, never twice; a failing run does not stop the others."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlnet.study.running import run_all
from nlnet.study.sweep import Row, Run, Sweep, last_of_each, plan
from tests.conftest import SMALL, run_nlnet

SWEEP = Sweep(
    title="Two",
    rows={"base": Row("base"), "more": Row("more", ["model=b", "optim.lr=1"])},
    overrides=["model=a", "data=d"],
    seeds=[0, 1],
)


def test_a_run_for_each_row_and_seed_and_the_last_override_wins(tmp_path: Path) -> None:
    runs = plan(SWEEP, tmp_path, overrides=["optim.lr=2"])
    assert [(run.row, run.seed) for run in runs] == [("base", 0), ("more", 0), ("base", 1), ("more", 1)]
    assert list(runs[3].command[3:]) == [
        "train", "model=b", "data=d", "optim.lr=2", f"runs={tmp_path}", "name=more", "seed=1"
    ]  # fmt: skip
    assert runs[3].folder == tmp_path / "more" / "s1"
    assert last_of_each(["++a.b=1", "c=2", "a.b=3"]) == ["a.b=3", "c=2"]


def test_several_processes_are_launched_by_torchrun(tmp_path: Path) -> None:
    sweep = Sweep(title="t", rows={"a": Row("a")}, processes=4)
    assert "--nproc-per-node=4" in plan(sweep, tmp_path)[0].command


def fake_run(folder: Path, name: str, script: str) -> Run:
    return Run(name, 0, folder / name, ["sh", "-c", script])


def test_done_runs_are_skipped_failing_ones_named_and_interruptions_end_it(tmp_path: Path) -> None:
    done = 'mkdir -p {0} && echo run >> {0}/count && echo \'{{"state": "DONE"}}\' > {0}/status.json'
    runs = [
        fake_run(tmp_path, "one", done.format(tmp_path / "one")),
        fake_run(tmp_path, "bad", "exit 3"),
        fake_run(tmp_path, "two", done.format(tmp_path / "two")),
    ]
    said: list[str] = []
    assert [run.row for run in run_all(runs, say=said.append)] == ["bad"]
    assert [run.row for run in run_all(runs, say=said.append)] == ["bad"]
    assert (tmp_path / "one" / "count").read_text() == "run\n"
    assert (tmp_path / "two" / "count").read_text() == "run\n"
    assert any("bad seed 0] failed with exit code 3" in line for line in said)
    with pytest.raises(KeyboardInterrupt):
        run_all([fake_run(tmp_path, "stopped", "exit 130"), *runs], say=said.append)


def test_a_sweep_that_is_ended_ends_its_runs(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = fake_run(tmp_path, "run", f"echo $$ > {tmp_path}/run/pid; exec sleep 60")
    code = f"""
from pathlib import Path
from unittest import mock
from nlnet.cli import run, sweep
from nlnet.study.sweep import Run
runs = [Run("run", 0, Path({str(run.folder)!r}), {list(run.command)!r})]
with mock.patch.object(sweep, "plan", lambda *_, **__: runs):
    raise SystemExit(run("sweep", ["sweep=table2a"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("starts" in line for line in process.stderr)  # behind the plan
    pid_file = run.folder / "pid"
    while not pid_file.is_file() or not pid_file.read_text():
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=60) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_sweep_of_real_runs_makes_a_table_and_goes_on(class_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "configs" / "sweep"
    folder.mkdir(parents=True)
    options = ", ".join(f'"{option}"' for option in [*SMALL, f"data.root={class_folder}", "trainer.epochs=1"])
    (folder / "mine.yaml").write_text(
        f"""
defaults: [_base, _self_]
title: One block
overrides: [{options}]
rows:
  c2d: {{_target_: nlnet.study.sweep.Row, title: C2D, published: [71.8, 89.7]}}
  wrong: {{_target_: nlnet.study.sweep.Row, title: wrong, overrides: ["optim.lr=-1"]}}
  block: {{_target_: nlnet.study.sweep.Row, title: one block, overrides: ["model/placement=small"]}}
"""
    )
    first = run_nlnet("sweep", "sweep=mine", cwd=tmp_path)
    assert first.returncode == 3
    with (tmp_path / "sweeps" / "mine" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert "one block" in first.stdout
    assert (tmp_path / "sweeps" / "mine" / "report.html").is_file()
    second = run_nlnet("sweep", "sweep=mine", cwd=tmp_path)
    assert second.stderr.count("done before") == 2
