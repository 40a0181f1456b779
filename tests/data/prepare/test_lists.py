"""Statistics, contact sheets and differences; that nothing grows with the number of videos."""

import csv
import sys
import tracemalloc
from pathlib import Path

import pytest

from nlnet.cli import run
from nlnet.data.prepare.check import Effort
from nlnet.data.prepare.diff import diff
from nlnet.data.prepare.scan import Split, scan
from nlnet.data.prepare.sources import Sources
from tests.data.prepare.conftest import contents, kill_at


def test_statistics(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for folder in clips.iterdir():
        (tmp_path / "in" / folder.name).symlink_to(folder)
    (tmp_path / "in" / "sky" / "bad.mp4").touch()
    try:
        assert run("data", ["stats", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    finally:
        (clips / "sky" / "bad.mp4").unlink()
    text = (tmp_path / "out/stats.txt").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "13 videos, 0:00:07 (h:mm:ss), 72 frames; 1 cannot be opened" in text
    assert "2 classes of 6 to 7 videos" in text
    assert "frames per second: 10.0 (100%)" in text
    assert "width x height: 40x40 (100%)" in text
    with (tmp_path / "out/classes.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "videos", "seconds"],
            ["it's (a) wall", "6", "3.6"],
            ["sky", "7", "3.6"],
        ]
    assert (tmp_path / "out/stats.png").read_bytes().startswith(b"\x89PNG")


def test_statistics_of_videos_that_are_all_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"x")
    assert run("data", ["stats", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "1 videos, 0:00:00 (h:mm:ss), 0 frames; 1 cannot be opened" in capsys.readouterr().out
    assert (tmp_path / "out/stats.png").read_bytes().startswith(b"\x89PNG")


def test_statistics_killed_and_started_again(clips: Path, tmp_path: Path) -> None:
    command = ["data", "stats", str(clips), "--workers", "1", "--out"]
    kill_at("nlnet.data.prepare.ledger:Ledger.record", 7, [*command, str(tmp_path / "cut")], tmp_path)
    for name in ("cut", "whole"):
        assert run("data", [*command[1:], str(tmp_path / name)]) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_contact_sheets(clips: Path, tmp_path: Path) -> None:
    command = ["contact-sheet", str(clips), "--out", str(tmp_path), "--per-class", "3", "--rows", "4"]
    assert run("data", command) == 0
    pages = sorted(tmp_path.glob("contact_sheet_*.png"))
    assert len(pages) == 2
    assert all(page.read_bytes().startswith(b"\x89PNG") for page in pages)
    before = contents(tmp_path)
    assert run("data", command) == 0
    assert contents(tmp_path) == before


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize(
    ("by", "both", "twice"),
    [
        ("path", [["x/aaaaaaaaaaa_000001_000011.mp4"] * 2], []),
        (
            "name",
            [
                ["x/aaaaaaaaaaa_000001_000011.mp4", "x/aaaaaaaaaaa_000001_000011.mp4"],
                ["x/bbbbbbbbbbb_000001_000011.mp4", "y/bbbbbbbbbbb_000001_000011.webm"],
            ],
            [],
        ),
        (
            "source",
            [
                ["x/aaaaaaaaaaa_000001_000011.mp4", "x/aaaaaaaaaaa_000001_000011.mp4"],
                ["x/aaaaaaaaaaa_000005_000015.mp4", "x/aaaaaaaaaaa_000001_000011.mp4"],
                ["x/bbbbbbbbbbb_000001_000011.mp4", "y/bbbbbbbbbbb_000001_000011.webm"],
            ],
            ["x/aaaaaaaaaaa_000001_000011.mp4", "x/aaaaaaaaaaa_000005_000015.mp4"],
        ),
    ],
)
def test_difference_by(by: str, both: list[list[str]], twice: list[str], tmp_path: Path) -> None:
    first = ["x/aaaaaaaaaaa_000001_000011.mp4", "x/aaaaaaaaaaa_000005_000015.mp4", "x/bbbbbbbbbbb_000001_000011.mp4"]
    second = ["x/aaaaaaaaaaa_000001_000011.mp4", "y/bbbbbbbbbbb_000001_000011.webm", "x/ccccccccccc_000001_000011.mp4"]
    (tmp_path / "train.txt").write_text("".join(f"{name} 0\n" for name in first))
    (tmp_path / "val.txt").write_text("".join(f"{name} {number}\n" for number, name in enumerate(second)))
    command = ["diff", str(tmp_path / "train.txt"), str(tmp_path / "val.txt"), "--out", str(tmp_path / "out")]
    assert run("data", [*command, "--by", by]) == 0
    rows = table(tmp_path / "out/both.csv")
    assert [row[:2] for row in rows] == both
    assert [row[1] for row in table(tmp_path / "out/twice.csv")] == twice
    assert rows[0][4:] == [f"{tmp_path}/train.txt:1", f"{tmp_path}/val.txt:1"]
    only = {row[0] for row in table(tmp_path / "out/only_second.csv")}
    assert only == set(second) - {pair[1] for pair in both}
    assert run("data", [*command, "--by", by, "--disjoint"]) == 2


def test_difference_by_content(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A validation video that is in the training set under another name; killed and started again."""
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "other.mov").write_bytes((clips / "sky" / "-v ü3.mp4").read_bytes())
    (tmp_path / "val" / "new.mp4").write_bytes(b"x")
    command = ["data", "diff", str(clips), str(tmp_path / "val"), "--by", "content", "--workers", "1", "--out"]
    kill_at("nlnet.data.prepare.ledger:Ledger.record", 9, [*command, str(tmp_path / "cut")], tmp_path)
    for name in ("cut", "whole"):
        assert run("data", [*command[1:], str(tmp_path / name)]) == 0
    assert "8 of 12 were done before" in capsys.readouterr().err
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert [row[:2] for row in table(tmp_path / "cut/both.csv")] == [["sky/-v ü3.mp4", "other.mov"]]
    assert [row[0] for row in table(tmp_path / "cut/only_second.csv")] == ["new.mp4"]


def peak(function: object) -> int:
    """The most bytes that Python holds at a time while it runs."""
    tracemalloc.start()
    try:
        function()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer holds memory of its own")
def test_memory_does_not_grow_with_the_list(tmp_path: Path) -> None:
    """Eight times the videos take as much memory, but for a little."""
    used = {}
    for count in (2000, 16000):
        for name, first in (("train", 0), ("val", count // 2)):
            numbers = range(first, first + count)
            lines = (f"class {number % 50}/video of some length {number}.mp4 {number % 50}\n" for number in numbers)
            (tmp_path / f"{name}{count}.txt").write_text("".join(lines))
        sources = [Sources([str(tmp_path / f"{name}{count}.txt")]) for name in ("train", "val")]
        used[count] = peak(lambda sources=sources: diff(*sources, tmp_path / "out", effort=Effort()))  # type: ignore[misc]
    assert used[16000] < used[2000] + 300_000, used


def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    used = {}
    for count in (500, 4000):
        for number in range(count):
            folder = tmp_path / str(count) / f"class {number % 20}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:011d}_000000_000010.mp4").touch()
        root = tmp_path / str(count)
        used[count] = peak(lambda root=root: scan(str(root), tmp_path / "out", split=Split()))  # type: ignore[misc]
    assert used[4000] < used[500] + 300_000, used
