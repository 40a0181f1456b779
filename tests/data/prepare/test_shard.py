"""Tar shards: what is in them, the same bytes after a kill, and what is refused."""

import json
import tarfile
from pathlib import Path

import pytest

from nlnet.cli import run
from tests.data.prepare.conftest import contents, kill_at


def members(out: Path, prefix: str = "train") -> dict[str, dict[str, bytes]]:
    """Key -> extension -> content, over all shards in order; the members of a key are neighbours."""
    samples: dict[str, dict[str, bytes]] = {}
    for entry in json.loads((out / f"{prefix}.json").read_text())["shardlist"]:
        with tarfile.open(out / entry["url"]) as tar:
            before = len(samples)
            for member in tar:
                key, _, extension = member.name.partition(".")
                assert key not in list(samples)[:-1]
                file = tar.extractfile(member)
                assert file is not None
                samples.setdefault(key, {})[extension] = file.read()
            assert len(samples) - before == entry["nsamples"]
            assert (out / entry["url"]).stat().st_size == entry["filesize"]
    return samples


def test_each_video_is_there_once_with_its_label(clips: Path, tmp_path: Path) -> None:
    assert run("data", ["shard", str(clips), "--out", str(tmp_path), "--megabytes", "0.02"]) == 0
    samples = members(tmp_path)
    found = {}
    for sample in samples.values():
        facts = json.loads(sample["json"])
        found[facts["name"]] = (facts["label"], sample["cls"], sample["mp4"])
    classes = ["it's (a) wall", "sky"]
    assert found == {
        str(path.relative_to(clips)): (label, str(label).encode(), path.read_bytes())
        for label, name in enumerate(classes)
        for path in (clips / name).iterdir()
    }
    assert (tmp_path / "classes.txt").read_text().splitlines() == classes
    assert len(list(tmp_path.glob("*.tar"))) > 2
    labels = [json.loads(sample["json"])["label"] for sample in samples.values()]
    assert labels != sorted(labels)


def test_killed_and_started_again(clips: Path, tmp_path: Path) -> None:
    command = ["data", "shard", str(clips), "--megabytes", "0.02", "--out"]
    kill_at("nlnet.data.prepare.shard:_add", 14, [*command, str(tmp_path / "cut")], tmp_path)
    done = {path.name: path.stat().st_ino for path in (tmp_path / "cut").glob("train-*.tar")}
    assert done
    assert not (tmp_path / "cut" / "train.json").exists()
    for name in ("cut", "whole"):
        assert run(command[0], [*command[1:], str(tmp_path / name)]) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert all((tmp_path / "cut" / name).stat().st_ino == number for name, number in done.items()), "made once"
    assert not list((tmp_path / "cut").glob(".part*"))


def test_lists_with_names_several_labels_and_missing_files(clips: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(clips)) for path in sorted(clips.glob("*/*"))]
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    rows = [f'"{names[0]}","0,2"', f'"{names[1]}",b', f'"{names[2]}",1', "gone.mp4,1"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    command = ["shard", str(tmp_path / "list.csv"), "--root", str(clips), "--out", str(tmp_path / "out")]
    assert run("data", [*command, "--classes", str(tmp_path / "classes.txt"), "--prefix", "val"]) == 0
    samples = members(tmp_path / "out", "val").values()
    facts = {json.loads(sample["json"])["name"]: json.loads(sample["json"])["label"] for sample in samples}
    assert facts == {names[0]: [0, 2], names[1]: 1, names[2]: 1}
    assert sorted("cls" in sample for sample in samples) == [False, True, True]
    assert (tmp_path / "out" / "val_left_out.csv").read_text() == "name,reason\ngone.mp4,no such file\n"


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ("a.mp4 0\nb.mp4\n", [], "list.txt:2: no label in 'b.mp4'"),
        ("a.mp4 walk\nb.mp4 5\n", ["--classes", "classes.txt"], "label 5, but there are 2 classes"),
        ("a.mp4 wakl\n", ["--classes", "classes.txt"], "no such class 'wakl'; did you mean 'walk'?"),
        ("a.mp4 0\n", [], "no video to put into shards; 1 are missing"),
        ("a.mp4 0\n", ["--megabytes", "0"], "--megabytes must be positive"),
        ("a.mp4 0\n", ["--root", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_is_refused(
    lines: str,
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text(lines)
    Path("classes.txt").write_text("walk\nrun\n")
    assert run("data", ["shard", "list.txt", "--out", "out", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_other_options_or_videos_are_refused(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text(f"{clips}/sky/-v ü0.mp4 0\n")
    command = ["shard", str(tmp_path / "list.txt"), "--out", str(tmp_path / "out")]
    assert run("data", command) == 0
    assert run("data", [*command, "--seed", "1"]) == 2
    assert "begun with other options" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text(f"{clips}/sky/-v ü1.mp4 0\n")
    assert run("data", command) == 2
    assert "begun with other videos" in capsys.readouterr().err
