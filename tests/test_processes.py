"""Several processes: the same videos, the same scores; killed and started again, the same weights."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nlnet.config.models import find_checkpoint
from nlnet.engine.checkpoint import load_checkpoint
from tests.conftest import run_nlnet

STEPS = 16  # 4 epochs of 24 videos in batches of 6


def newest_step(checkpoints: Path) -> int:
    """The step that last.json names; 0 where there is none."""
    try:
        return int(json.loads((checkpoints / "last.json").read_text())["step"])
    except (OSError, ValueError):
        return 0


def kill_all_with(argument: str) -> None:
    """Kills every process with this argument: torchrun, the ranks (in sessions of their own) and loader workers."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and argument in (entry / "cmdline").read_text().split("\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended meanwhile


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_checkpoint(find_checkpoint(run))["model"]
    return weights


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory, class_folder: Path) -> tuple[Path, list[str]]:
    """A run at two processes that nothing interrupted, and its overrides."""
    from tests.conftest import SMALL

    home = tmp_path_factory.mktemp("two")
    options = [*SMALL, f"data.root={class_folder}", "model/placement=small", "trainer.checkpoint_every=0.5"]
    result = run_nlnet("train", *options, "name=whole", cwd=home, processes=2)
    assert result.returncode == 0, result.stderr
    return home, options


def test_two_processes_train_to_the_end(two_processes: tuple[Path, list[str]]) -> None:
    home, _ = two_processes
    run = home / "runs" / "whole" / "s0"
    assert json.loads((run / "status.json").read_text())["state"] == "DONE"
    results = json.loads((run / "eval" / "1x1" / "results.json").read_text())
    assert results["num_videos"] == results["num_scored"] == 6
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if "train" in line]
    assert steps == sorted(set(steps)), "each record is written once"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    two_processes: tuple[Path, list[str]], workers: int
) -> None:
    home, options = two_processes
    name = f"killed{workers}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    tool = str(Path(__file__).parents[1] / "tools" / "train.py")
    process = subprocess.Popen(
        [*command, tool, *options, f"name={name}", f"workers={workers}"],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoints = home / "runs" / name / "s0" / "checkpoints"
    deadline = time.monotonic() + 120
    while newest_step(checkpoints) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    kill_all_with(f"name={name}")
    process.wait()
    assert 4 <= newest_step(checkpoints) < STEPS, "the kill came too late or too early"
    again = run_nlnet("train", *options, f"name={name}", f"workers={workers}", cwd=home, processes=2)
    assert again.returncode == 0, again.stderr
    assert "resuming at step" in again.stderr
    whole, resumed = final_weights(home / "runs" / "whole" / "s0"), final_weights(home / "runs" / name / "s0")
    for key, tensor in whole.items():
        assert torch.equal(tensor, resumed[key]), key


def test_two_nodes_train_as_two_processes_of_one(two_processes: tuple[Path, list[str]]) -> None:
    """Each "node" is an agent of torchrun with a process of its own; they meet at an address, as machines do."""
    home, options = two_processes
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", "--rdzv-id=two", "--local-addr=127.0.0.1"]
    tool = str(Path(__file__).parents[1] / "tools" / "train.py")
    nodes = [
        subprocess.Popen(
            [*command, tool, *options, "name=nodes"],
            cwd=home,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [node.communicate(timeout=240)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    assert sum("validation at epoch" in text for text in said) == 1, "one process of all speaks"
    whole, of_nodes = final_weights(home / "runs" / "whole" / "s0"), final_weights(home / "runs" / "nodes" / "s0")
    for key, tensor in whole.items():
        assert torch.equal(tensor, of_nodes[key]), key


@pytest.mark.parametrize("processes", [2, 3])
def test_scores_do_not_depend_on_the_number_of_processes(
    two_processes: tuple[Path, list[str]], processes: int, tmp_path: Path
) -> None:
    home, _ = two_processes
    run = home / "runs" / "whole" / "s0"
    saved = {}
    for count in (1, processes):
        out = tmp_path / f"{count}"
        result = run_nlnet(
            "test", str(run), "data/views=authors_10x3", "--store-views", "--out", str(out), cwd=home, processes=count
        )
        assert result.returncode == 0, result.stderr
        with np.load(out / "predictions.npz") as file:
            saved[count] = {name: file[name] for name in file.files}
        with np.load(out / "views.npz") as file:
            saved[count]["logits"] = file["logits"]
    one, many = saved[1], saved[processes]
    assert one["paths"].tolist() == many["paths"].tolist()
    np.testing.assert_array_equal(one["labels"], many["labels"])
    np.testing.assert_array_equal(one["scored"], many["scored"])
    np.testing.assert_allclose(one["scores"], many["scores"], atol=1e-5)
    assert one["logits"].shape == (6, 30, 3)
    np.testing.assert_allclose(one["logits"], many["logits"], atol=1e-4)


def test_a_batch_that_does_not_divide_is_refused_by_all_processes(
    two_processes: tuple[Path, list[str]],
) -> None:
    home, options = two_processes
    result = run_nlnet("train", *options, "name=odd", "trainer.batch_size=7", cwd=home, processes=2)
    assert result.returncode != 0
    assert "batch_size=7" in result.stderr
    assert "multiple of" in result.stderr
