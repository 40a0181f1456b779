"""Real footage: the small experiment learns to name all held-out clips, at one process and at two."""

import json
from pathlib import Path

import pytest

from tests.conftest import run_nlnet


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_all_validation_videos_are_named(test_videos: Path, tmp_path: Path, processes: int) -> None:
    root = test_videos / "real_clips"
    result = run_nlnet(
        "train",
        "experiment=real_clips",
        f"data.root={root}",
        "device=cpu",
        "tensorboard=false",
        cwd=tmp_path,
        processes=processes,
        timeout=540,
    )
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "real_clips" / "s0"
    results = json.loads((run / "eval" / "10x1" / "results.json").read_text())
    assert results["num_videos"] == results["num_scored"] == 8
    assert results["top1"] == 1.0, result.stderr
    assert (run / "classes.txt").read_text() == (root / "classes.txt").read_text()
