"""Run folders as training and testing leave them, small enough to check by hand."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from nlnet.report.contact_sheet import contact_sheet

CLASSES = ("<b>walk</b>", "run & jump", "price $5$ | pay")
# Four videos of three classes, the last one undecodable: 0 right, 1 taken for class 2 (surely), 2 right, 3 unscored.
SCORES = [[0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [0.2, 0.2, 0.6], [0.0, 0.0, 0.0]]
LABELS = [0, 1, 2, 0]


class FakeRun:
    """Writes the files of one run folder; each test leaves out or breaks what it is about."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)

    def status(self, state: str, reason: str = "") -> "FakeRun":
        return self.json("status.json", {"state": state, "reason": reason})

    def json(self, name: str, value: object) -> "FakeRun":
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
        return self

    def text(self, name: str, text: str) -> "FakeRun":
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def table(self, name: str, rows: Sequence[Sequence[object]]) -> "FakeRun":
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        return self

    def classes(self, names: Sequence[str] = CLASSES) -> "FakeRun":
        return self.text("classes.txt", "".join(f"{name}\n" for name in names))

    def costs(self, *, params: int = 35_300_000, macs: int = 19_500_000_000) -> "FakeRun":
        return self.json("costs.json", {"params": params, "macs": macs, "clip": [8, 224, 224]})

    def results(self, top1: float, *, top5: float = 1.0, views: str = "10x3", coverage: float = 1.0) -> "FakeRun":
        values = {"views": views, "num_videos": 4, "num_scored": round(4 * coverage), "coverage": coverage}
        values |= {"top1": top1, "top5": top5, "mean_class_accuracy": top1, "step": 120, "checkpoint": "last"}
        return self.json(f"eval/{views}/results.json", values)

    def predictions(self, *, views: str = "10x3") -> "FakeRun":
        (self.path / "eval" / views).mkdir(parents=True, exist_ok=True)
        np.savez(
            self.path / "eval" / views / "predictions.npz",
            scores=np.array(SCORES, dtype=np.float32),
            labels=np.array(LABELS),
            scored=np.array([True, True, True, False]),
            paths=np.array(["walk/a.mp4", "run/<i>sure mistake</i>.mp4", "pay/c.mp4", "walk/broken.mp4"]),
        )
        return self

    def metrics(self, *, top1: float = 0.5, steps: int = 5, torn: bool = True) -> "FakeRun":
        lines = []
        for step in range(steps):
            record = {"step": step, "epoch": step / 2, "loss": 2.0 - step / 10, "top1": top1}
            lines.append({"kind": "train", **record, "lr": 0.1, "clips_per_second": 50.0, "data_share": 0.25})
            lines.append({"kind": "val", **record, "top5": 1.0, "coverage": 1.0})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        return self.text("metrics.jsonl", text + ('{"kind":"train","step":9,"lo' if torn else ""))

    def complete(self, *, top1: float = 0.5) -> "FakeRun":
        """Every file that a finished run has."""
        self.status("DONE").classes().costs().metrics().predictions().results(top1, coverage=0.75)
        rows = [
            ["class", "videos", "correct", "accuracy"],
            *zip(CLASSES, (2, 1, 1), (1, 0, 1), (0.5, 0, 1), strict=True),
        ]
        self.table("eval/10x3/per_class.csv", rows)
        self.table("eval/10x3/unscored.csv", [["path", "reason"], ["walk/broken.mp4", "no <video> stream"]])
        self.table("bad_videos.csv", [["path", "reason"], ["train/torn.mp4", "truncated"]])
        self.text("config.yaml", "name: first\nnote: </pre><script>alert(1)</script>\n")
        self.json("env.json", {"torch": "2.9.0", "devices": ["cpu"], "danger": "<img src=x>"})
        clip = np.zeros((4, 16, 16, 3), dtype=np.uint8)
        contact_sheet([clip], [CLASSES[0]], path=self.path / "contact_sheet.png")
        return self


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[str], FakeRun]:
    """Name like 'c2d/s0' -> an empty run folder of that name under tmp_path."""
    return lambda name: FakeRun(tmp_path / name)
