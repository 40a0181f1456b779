"""Checks: what is found in each file, crashes and hangs of a decoder, and going on after a kill."""

import csv
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nlnet.cli import run
from nlnet.data.prepare.ledger import Ledger
from nlnet.data.prepare.workers import Failure, each
from tests.conftest import write_clip
from tests.data.prepare.conftest import contents, kill_at


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good, empty, cut off, overwritten and wrong files."""
    root = tmp_path_factory.mktemp("mixed")
    for number in range(4):
        write_clip(root / "a" / f"good {number}.mp4", (200, 60, 60), seed=number, frames=20)
    content = (root / "a" / "good 0.mp4").read_bytes()
    (root / "b").mkdir()
    (root / "b" / "empty.mp4").touch()
    (root / "b" / "no index.mp4").write_bytes(content[: len(content) // 2])
    (root / "b" / "text.avi").write_text("not a video")
    write_clip(root / "b" / "still.mp4", (9, 9, 9), seed=1, frames=1)
    start = content.index(b"mdat") + len(content) // 3
    (root / "b" / "hole.mp4").write_bytes(content[:start] + b"\xff" * 400 + content[start + 400 :])
    return root


def test_each_file_is_judged(mixed: Path, tmp_path: Path) -> None:
    command = ["check", str(mixed), "--out", str(tmp_path), "--workers", "2", "--min-frames", "2", "--whole"]
    assert run("data", command) == 0
    report = rows(tmp_path / "report.csv")
    assert {name: row["status"] for name, row in report.items()} == {
        **{f"a/good {number}.mp4": "ok" for number in range(4)},
        "b/empty.mp4": "bad",
        "b/hole.mp4": "damaged",
        "b/no index.mp4": "bad",
        "b/still.mp4": "bad",
        "b/text.avi": "bad",
    }
    good = report["a/good 0.mp4"]
    assert [good[key] for key in ("frames", "width", "height", "frames_per_second", "seconds", "codec", "audio")] == [
        "20", "40", "40", "10.0", "2.0", "h264", "False"
    ]  # fmt: skip
    assert set(rows(tmp_path / "quarantine.csv")) == {name for name, row in report.items() if row["status"] == "bad"}
    assert all(row["reason"] for row in rows(tmp_path / "quarantine.csv").values())
    assert len(list(mixed.rglob("*.*"))) == 9, "nothing is deleted"


def test_killed_and_started_again_and_mended(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "check", str(mixed), "--workers", "2", "--out"]
    kill_at("nlnet.data.prepare.ledger:Ledger.record", 5, [*command, str(tmp_path / "cut")], tmp_path)
    assert not (tmp_path / "cut" / "report.csv").exists()
    capsys.readouterr()
    for name in ("cut", "whole"):
        assert run("data", [*command[1:], str(tmp_path / name)]) == 0
    assert "4 of 9 were done before" in capsys.readouterr().err
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")

    # A list, and a file that is mended: only that one is opened again.
    (tmp_path / "list.txt").write_text(f"{mixed}/a/good 1.mp4 0\n{tmp_path}/b.mp4 1\n")
    command = ["check", str(tmp_path / "list.txt"), "--workers", "1", "--out", str(tmp_path / "list")]
    assert run("data", command) == 0
    assert rows(tmp_path / "list/quarantine.csv")[f"{tmp_path}/b.mp4"]["reason"] == "no such file"
    write_clip(tmp_path / "b.mp4", (9, 9, 200), seed=1)
    capsys.readouterr()
    assert run("data", command) == 0
    assert "1 of 2 were done before" in capsys.readouterr().err
    assert not rows(tmp_path / "list/quarantine.csv")


def test_one_process_at_a_time(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(tmp_path, verb="check", settings={"probes": 5, "whole": False}):
        assert run("data", ["check", str(clips), "--out", str(tmp_path)]) == 2
    assert "database is locked; if another nlnet data check is at work" in capsys.readouterr().err
    assert run("data", ["check", str(clips), "--out", str(tmp_path), "--workers", "1"]) == 0


def _end_badly(item: str) -> str:
    """What a decoder may do."""
    if item == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        time.sleep(3600)
    return item.upper()


def test_a_crash_or_a_hang_costs_one_file() -> None:
    items = ["a", "crash", "b", "hang", "c", "d", "crash", "e"]
    answers = list(each(_end_badly, items, processes=2, time_limit_s=5))
    assert sorted(item for item, _ in answers) == sorted(items)
    for item, answer in answers:
        if item in ("crash", "hang"):
            assert isinstance(answer, Failure)
            assert ("crashed" if item == "crash" else "no answer within 5 s") in answer.reason
        else:
            assert answer == item.upper()


def test_only_as_many_items_are_taken_as_are_at_work() -> None:
    taken = []

    def items() -> Iterator[str]:
        for number in range(50):
            taken.append(number)
            yield str(number)

    for count, _ in enumerate(each(_end_badly, items(), processes=2, time_limit_s=60), start=1):
        assert len(taken) <= count + 4
    assert len(taken) == 50


def test_an_error_in_the_program_is_no_bad_file() -> None:
    with pytest.raises(TypeError):
        list(each(str.upper, [1], processes=1, time_limit_s=60))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers must be at least 1"),
        (["--time-limit", "-1"], "--time-limit must be positive"),
    ],
)
def test_wrong_options(
    options: list[str], message: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", ["check", str(clips), "--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for verb in ("check", "stats", "resize", "contact-sheet"):
        assert run("data", [verb, str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
        assert "in: no videos" in capsys.readouterr().err
