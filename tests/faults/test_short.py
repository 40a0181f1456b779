"""A short version of ``scripts/faults``: some faults of each group."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults import decoding, kills, launcher, loading, loggers, numbers, rot, videos, writes
from tests.faults.processes import Case

GROUPS: dict[str, Callable[[Path, Path], Sequence[Case]]] = {
    "videos": lambda home, clips: videos.run_all(home, full=False),
    "rot": lambda home, clips: rot.run_all(home, each=20, headers=20),
    "writes": lambda home, clips: writes.run_all(home, kills=3, limits=4, disks=2),
    "kills": lambda home, clips: kills.run_kills(home, each=1, jobs=((1, 2), (2, 0))),
    "resumes": lambda home, clips: kills.run_resumes(home, variants=1, cuts=1),
    "decoding": lambda home, clips: decoding.run_all(home, ways=1, full=False),
    "numbers": lambda home, clips: numbers.run_all(home, full=False),
    "loading": lambda home, clips: loading.run_all(home, videos=clips, payloads=2, places=1),
    "loggers": lambda home, clips: loggers.run_all(home, full=False),
}


def assert_survived(cases: Sequence[Case]) -> None:
    assert cases
    lost = [f"{name}: {seen}" for name, ok, seen in cases if not ok]
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("group", GROUPS)
def test_faults_are_survived(group: str, tmp_path: Path, class_folder: Path) -> None:
    assert_survived(GROUPS[group](tmp_path / group, class_folder))


@pytest.mark.slow
def test_jobs_under_torchrun_end_and_go_on(tmp_path: Path, class_folder: Path) -> None:
    assert_survived(launcher.run_all(tmp_path, videos=class_folder, full=False))
