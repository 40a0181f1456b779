"""A data set with several labels per video, in the layout of Charades, from its files to a trained network."""

import json
from pathlib import Path

import numpy as np
import pytest

from nlnet.cli import run
from nlnet.config import build_train, compose
from nlnet.errors import ConfigError
from tests.conftest import SMALL, write_clip

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
# What is seen decides: blue is action 0, green action 1.
COLOURS = {
    "blue": ((40, 40, 210), "c000 0.00 1.00"),
    "green": ((40, 210, 40), "c001 0.00 1.00"),
    "both": ((40, 210, 210), "c001 0.10 0.90;c000 0.00 1.00"),
    "none": ((40, 40, 40), ""),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training videos and one for validation of each colour."""
    root = tmp_path_factory.mktemp("charades")
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for kind, (colour, actions) in COLOURS.items():
        for number in range(5):
            write_clip(root / "Charades_v1_480" / f"{kind}{number}.mp4", colour, seed=number)
            rows["test" if number == 4 else "train"].append(f'{kind}{number},,,,,,"A, b.",,,{actions},1.00\n')
    (root / "Charades").mkdir()
    for split, lines in rows.items():
        (root / "Charades" / f"Charades_v1_{split}.csv").write_text(HEADER + "".join(lines))
    (root / "Charades" / "Charades_v1_classes.txt").write_text("c000 Being blue\nc001 Being green\n")
    return root


@pytest.fixture
def options(root: Path, tmp_path: Path) -> list[str]:
    small = [option for option in SMALL if option != "data=folder"]
    classes = "data.annotations.num_classes=null"
    return [*small, "data=charades", f"data.root={root}", classes, f"runs={tmp_path}/runs", "name=several"]


def test_training_on_several_labels(
    options: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", [*options, "trainer/loss=binary_cross_entropy", "trainer.epochs=5"]) == 0
    folder = tmp_path / "runs" / "several" / "s0"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    assert losses[-1] < 0.6 * losses[0]
    assert all("top1" not in record for record in records)
    results = json.loads((folder / "eval" / "1x1" / "results.json").read_text())
    assert results["map"] == 1.0, "two colours are not hard"
    with np.load(folder / "eval" / "1x1" / "predictions.npz") as saved:
        assert saved["labels"].astype(int).tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert (folder / "contact_sheet.png").is_file()
    assert "mAP" in (folder / "report.html").read_text()
    capsys.readouterr()
    video = root / "Charades_v1_480" / "both4.mp4"
    assert run("predict", [str(folder), str(video), "--json"]) == 0
    scores = {each["class"]: each["score"] for each in json.loads(capsys.readouterr().out)["top"]}
    assert min(scores.values()) > 0.5, "each class has its own score: they need not sum to 1"


def test_the_other_loss_is_refused_with_the_one_that_fits(
    options: list[str], small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", options) == 2
    assert "any number of labels; add trainer/loss=binary_cross_entropy" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"one label; add trainer/loss=cross_entropy"):
        build_train(compose("train", [*small, options[-2], "trainer/loss=binary_cross_entropy"]))
