"""``nlnet visualize``: files for every block and query, numbers beside them, and errors with their mend."""

import json
from pathlib import Path

import pytest

from nlnet.cli import main


@pytest.fixture
def video(class_folder: Path) -> str:
    return str(class_folder / "grass" / "clip 0.mp4")


def test_all_blocks_and_some_queries(
    checkpoint: Path, video: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    queries = ["--query", "3,30,2", "--query", "strongest"]
    assert main(["visualize", str(checkpoint), video, "--out", str(out), "--top", "7", *queries]) == 0
    data = json.loads((out / "attention.json").read_text())
    expected = {"attention.json"} | {f"class_activation.{ending}" for ending in ("png", "gif", "mp4")}
    assert [block["block"] for block in data["blocks"]] == ["res3.nl0", "res4.nl0"]
    for block in data["blocks"]:
        for query in ("3_30_2", "strongest"):
            kinds = ("arrows.png", "heat.png", "heat.gif", "heat.mp4")
            expected |= {f"{block['block']}_at_{query}_{kind}" for kind in kinds}
        frame, y, x = block["queries"][0]["query"]
        assert frame == 2
        assert abs(x - 3) <= 8  # the middle of the place that covers the pixel
        assert abs(y - 30) <= 8
        weights = [key["weight"] for key in block["queries"][0]["keys"]]
        assert 1 <= len(weights) <= 7  # a block of few keys has no more
        assert weights == sorted(weights, reverse=True)
        assert 0 <= block["statistics"]["own_frame"] <= 1
    assert {path.name for path in out.iterdir()} == expected
    printed = capsys.readouterr().out
    assert "res4.nl0" in printed
    assert "in brackets: what equal weights on all keys would give" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--block", "res9.nl1"], "res9.nl1: the network has no such non-local block; it has res"),
        (["--query", "1,2"], "--query 1,2: write x,y,frame"),
        (["--query", "500,2,0"], "x=500 lies outside the clip, which has x 0 to "),
        (["--class", "swimming"], "--class swimming: the network knows no such class; it knows blue sky, grass"),
        (["--view", "3"], "view 3: the protocol has the views 0 to 0"),
        (["--top", "0"], "--top 0: at least 1"),
    ],
)
def test_wrong_input(
    checkpoint: Path, video: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["visualize", str(checkpoint), video, "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_video(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", str(checkpoint), str(tmp_path / "no.mp4")]) == 2
    assert "no.mp4: no such file" in capsys.readouterr().err
