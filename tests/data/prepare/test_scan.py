"""Lists from folders: stratified, no source video on both sides, the same each time."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from nlnet.cli import run
from nlnet.data.annotations import from_lists
from nlnet.data.prepare.grouping import source_of
from tests.data.prepare.conftest import contents, kill_at


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def read(path: Path) -> list[tuple[str, int]]:
    with path.open(newline="") as file:
        return [(row["path"], int(row["label"])) for row in csv.DictReader(file)]


def scan(root: Path, out: Path, *options: str, code: int = 0) -> dict[str, list[tuple[str, int]]]:
    assert run("data", ["scan", str(root), "--out", str(out), *options]) == code
    return {path.stem: read(path) for path in out.glob("*.csv") if path.stem in ("train", "val", "test")}


@pytest.mark.parametrize(
    ("stem", "source"),
    [
        ("v_ApplyEyeMakeup_g01_c04", "v_ApplyEyeMakeup_g01"),
        ("-a_bCdEfGhI_000010_000020", "-a_bCdEfGhI"),
        ("abcdefghijk_7_17", "abcdefghijk"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_1", "April_09_brush_hair"),
        ("#437_How_To_Ride_A_Bike_ride_bike_f_cm_np1_le_med_0", "#437_How_To_Ride_A_Bike_ride_bike"),
        ("78687", "78687"),
        ("walk_3", "walk_3"),
    ],
)
def test_conventions_of_names(stem: str, source: str) -> None:
    assert source_of(stem)[0] == source


NAMES = {
    "ucf": lambda source, clip: f"v_Walk_g{source:02d}_c{clip:02d}",
    "kinetics": lambda source, clip: f"_d{source:09d}_{clip * 10:06d}_{clip * 10 + 10:06d}",
    "parts": lambda source, clip: f"film {chr(97 + source)}_{clip}",
    "pattern": lambda source, clip: f"clip{clip} of {source}",
}


@pytest.mark.parametrize("names", NAMES)
def test_no_source_is_on_both_sides(names: str, tmp_path: Path) -> None:
    name = NAMES[names]
    files = [f"{label}/{name(source, clip)}.mp4" for label in "abc" for source in range(20) for clip in range(1, 6)]
    make(tmp_path / "in", *files)
    options = ["--pattern", r"of (\d+)$"] if names == "pattern" else []
    lists = scan(tmp_path / "in", tmp_path / "out", *options, "--val", "0.2", "--test", "0.1")
    assert sorted(path for part in lists.values() for path, _ in part) == sorted(files)
    sides = defaultdict(set)
    source_of_file = {
        f"{label}/{name(source, clip)}.mp4": source for label in "abc" for source in range(20) for clip in range(1, 6)
    }
    for part, rows in lists.items():
        for path, _ in rows:
            sides[source_of_file[path]].add(part)  # the same source in several classes counts once
    assert all(len(parts) == 1 for parts in sides.values())
    for label in range(3):
        assert sum(each == label for _, each in lists["val"]) == 20
        assert sum(each == label for _, each in lists["test"]) == 10


def test_numbers_that_only_count_are_no_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "in", *(f"{label}/video_{number:03d}.mp4" for label in "ab" for number in range(10)))
    lists = scan(tmp_path / "in", tmp_path / "out", "--val", "0.3")
    assert [sum(each == label for _, each in lists["val"]) for label in (0, 1)] == [3, 3]
    assert "every video is a source of its own" in capsys.readouterr().out


def test_conventions_may_be_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class of one known source takes nothing from the numbered parts of another class."""
    names = [f"a/v_a_g01_c{clip:02d}.avi" for clip in range(4)]
    names += [f"b/film {letter}_{part}.mp4" for letter in "abcdefgh" for part in range(3)]
    make(tmp_path / "in", *names)
    lists = scan(tmp_path / "in", tmp_path / "out", "--val", "0.25")
    films = [{path.partition("_")[0] for path, label in lists[part] if label == 1} for part in ("train", "val")]
    assert films[0].isdisjoint(films[1])
    assert len(films[1]) == 2
    said = capsys.readouterr().out
    assert "UCF-101 groups" in said
    assert "trailing parts" in said


def test_uneven_sources_and_lonely_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class of one source stays in training; of one with large sources the smallest is held out."""
    names = [f"one/v_x_g01_c{clip:02d}.avi" for clip in range(4)]
    names += [f"two/v_y_g01_c{clip:02d}.avi" for clip in range(9)] + [f"two/v_y_g02_c{c:02d}.avi" for c in range(7)]
    make(tmp_path / "in", *names)
    lists = scan(tmp_path / "in", tmp_path / "out", "--val", "0.1")
    assert sorted(path for path, _ in lists["val"]) == sorted(name for name in names if "g02" in name)
    assert "1 classes have no validation video" in capsys.readouterr().out


def test_the_lists_can_be_trained_with(tmp_path: Path) -> None:
    awkward = ['it\'s, "so"/a b.mp4', 'it\'s, "so"/ü.webm', "z/-1.avi", "z/deep/er/x.mp4", "z/#2.mkv"]
    make(tmp_path / "in", *awkward, "z/notes.txt", ".hidden/x.mp4", "loose.mp4")
    (tmp_path / "in" / "z" / "round").symlink_to(tmp_path / "in")
    lists = scan(tmp_path / "in", tmp_path / "out")
    annotations = from_lists(
        root=str(tmp_path / "in"), train=str(tmp_path / "out/train.csv"), val=str(tmp_path / "out/val.csv"),
        classes=str(tmp_path / "out/classes.txt"),
    )  # fmt: skip
    found = {*annotations.train.videos, *annotations.val.videos}
    assert {(video.name, annotations.classes[video.label]) for video in found} == {
        (name, name.partition("/")[0]) for name in awkward
    }
    assert all(Path(video.path).is_file() for video in found)
    assert sum(map(len, lists.values())) == len(awkward)
    assert "loose.mp4,in no folder of a class" in (tmp_path / "out/skipped.csv").read_text()


def test_given_splits_quarantine_and_names_that_no_list_can_hold(tmp_path: Path) -> None:
    make(tmp_path / "in", "train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4", "val/b/bad.mp4", "train/a/line\nbreak.mp4")
    (tmp_path / "quarantine.csv").write_text("path,reason\nval/b/bad.mp4,empty\n")
    lists = scan(tmp_path / "in", tmp_path / "out", "--without", str(tmp_path / "quarantine.csv"))
    assert lists == {"train": [("train/a/1.mp4", 0), ("train/b/2.mp4", 1)], "val": [("val/a/3.mp4", 0)]}
    skipped = (tmp_path / "out/skipped.csv").read_text()
    assert "line break" in skipped
    assert "val/b/bad.mp4" in skipped


def test_classes_by_pattern(tmp_path: Path) -> None:
    make(
        tmp_path / "in",
        *(f"{label}-{source}-{clip}.mp4" for label in ("run", "sit") for source in "xyz" for clip in "12"),
    )
    lists = scan(tmp_path / "in", tmp_path / "out", "--pattern", r"(?P<class_>\w+)-(?P<source>\w)-")
    assert (tmp_path / "out/classes.txt").read_text() == "run\nsit\n"
    assert {len({path.split("-")[1] for path, _ in rows} & set("xyz")) for rows in lists.values()} == {1, 2}


def test_killed_and_started_again(tmp_path: Path) -> None:
    make(tmp_path / "in", *(f"{label}/{number}.mp4" for label in "abc" for number in range(9)))
    command = ["data", "scan", str(tmp_path / "in"), "--out"]
    kill_at("nlnet.data.prepare.scan:write_table", 2, [*command, str(tmp_path / "cut")], tmp_path)
    for out in ("cut", "whole"):
        assert run("data", [*command[1:], str(tmp_path / out)]) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val", "1.2"], "must be shares"),
        (["--pattern", "("], "not a regular expression"),
        (["--pattern", "x"], "has no group"),
        (["--without", "gone.csv"], "gone.csv: cannot be read"),
    ],
)
def test_wrong_options(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "in", "a/1.mp4", "a/2.mp4")
    scan(tmp_path / "in", tmp_path / "out", *options, code=2)
    assert message in capsys.readouterr().err
    assert run("data", ["scan", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
