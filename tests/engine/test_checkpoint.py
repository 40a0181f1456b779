"""A checkpoint is complete and verified, or ignored; loading one never runs code."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from nlnet.engine import checkpoint
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint, save_checkpoint
from nlnet.errors import CheckpointError


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
