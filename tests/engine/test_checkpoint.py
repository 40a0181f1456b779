"""A checkpoint is complete and verified, or ignored; loading one never runs code."""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nlnet.engine import checkpoint
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint, save_checkpoint
from nlnet.errors import CheckpointError, ConfigError


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((64, 64), float(step))}, "names": ["a", "b"]}


def test_a_round_trip_keeps_everything(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", state(3))
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded["step"] == 3
    assert loaded["names"] == ["a", "b"]
    assert torch.equal(loaded["model"]["weight"], torch.full((64, 64), 3.0))


def test_the_newest_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (1, 2, 3, 12):
        folder.save(step, state(step))
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["step_00000003.pt", "step_00000012.pt"]
    found = folder.newest()
    assert found is not None
    assert found[1]["step"] == 12


@pytest.mark.parametrize("damage", ["flip", "truncate", "zero", "no digest"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    said: list[str] = []
    folder = CheckpointFolder(tmp_path, keep=3, say=said.append)
    folder.save(1, state(1))
    newest = folder.save(2, state(2))
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    if damage == "flip":
        content[middle] ^= 4
    elif damage == "truncate":
        del content[middle:]
    elif damage == "zero":
        content[middle : middle + 512] = bytes(512)
    else:
        Path(f"{newest}.sha256").unlink()
    newest.write_bytes(content)
    found = folder.newest()
    assert found is not None
    assert found[1]["step"] == 1
    assert len(said) == 1
    assert str(newest) in said[0]


def test_a_failing_write_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.save(1, state(1))

    def disk_is_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", disk_is_full)
    with pytest.raises(CheckpointError, match="No space left"):
        folder.save(2, state(2))
    monkeypatch.undo()
    found = folder.newest()
    assert found is not None
    assert found[1]["step"] == 1
    assert not list(tmp_path.glob("*.tmp"))


class Bomb:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.sentinel}",)


def test_a_pickle_bomb_does_not_go_off(tmp_path: Path) -> None:
    path, sentinel = tmp_path / "bomb.pt", tmp_path / "went_off"
    torch.save({"format": 1, "step": 0, "model": Bomb(sentinel)}, path)
    with pytest.raises(CheckpointError, match=r"bomb\.pt"):
        load_checkpoint(path)
    assert not sentinel.exists()


def test_errors_name_the_file_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of nlnet"):
        load_checkpoint(tmp_path / "foreign.pt")
    save_checkpoint(tmp_path / "new.pt", {**state(1), "format": checkpoint.FORMAT + 1})
    with pytest.raises(CheckpointError, match="newer nlnet"):
        load_checkpoint(tmp_path / "new.pt")


def test_a_copy_under_another_name_is_verified(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", state(3))
    content = bytearray((tmp_path / "x.pt").read_bytes())
    (tmp_path / "copy.pt").write_bytes(content)
    assert load_checkpoint(tmp_path / "copy.pt")["step"] == 3
    content[len(content) // 2] ^= 1
    (tmp_path / "copy.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"copy\.pt: damaged"):
        load_checkpoint(tmp_path / "copy.pt")


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", state(3))
    assert torch.load(tmp_path / "x.pt", weights_only=True)["step"] == 3
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"nlnet sha256 ")
    digest, name = (tmp_path / "x.pt.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256((tmp_path / "x.pt").read_bytes()).hexdigest(), "x.pt")


def test_some_are_kept_for_good(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2, keep_every=10)
    for step in (4, 8, 12, 16, 20, 24, 28, 36):
        folder.save(step, state(step))
    kept = sorted(int(path.stem[5:]) for path in tmp_path.glob("*.pt"))
    assert kept == [12, 20, 28, 36]  # the first at or behind 10 and 20; the newest two
    assert len(list(tmp_path.glob("*.sha256"))) == 4


def test_damaged_ones_do_not_crowd_out_the_sound(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2, say=lambda text: None)
    for step in (8, 9):
        folder.save(step, state(step))
    for step in (8, 9):
        (tmp_path / f"step_0000000{step}.pt").write_bytes(b"rot")
    (tmp_path / "step_00000010.pt.tmp").write_bytes(b"cut off")
    assert folder.newest() is None
    folder.open_at(0)
    assert sorted(path.name for path in tmp_path.glob("*")) == [
        "last.json",
        "step_00000008.pt.damaged",
        "step_00000009.pt.damaged",
    ]
    folder.save(3, state(3))
    found = folder.newest()
    assert found is not None
    assert found[1]["step"] == 3


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"keep_every": 0}])
def test_keeping_nothing_is_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="keep"):
        CheckpointFolder(tmp_path, **wrong)
