"""What the files of a run folder say: [folder] -> plain records.

A report is often asked for while a run is still going, or after it died, so a file that is missing or half written
is an ordinary answer here (None or empty), never an error. The page then says which file is missing.
"""

import csv
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULTS_FILE = "results.json"
PREDICTIONS_FILE = "predictions.npz"
PER_CLASS_FILE = "per_class.csv"
BAD_VIDEOS_FILE = "bad_videos.csv"
UNSCORED_FILE = "unscored.csv"


@dataclass(frozen=True)
class Predictions:
    """One evaluation of N videos and K classes; ``scored`` is False where the video could not be decoded."""

    scores: NDArray[np.float32]  # [N, K]
    labels: NDArray[np.int64]  # [N]
    scored: NDArray[np.bool_]  # [N]
    paths: tuple[str, ...]  # [N]

    @property
    def num_classes(self) -> int:
        return int(self.scores.shape[1])

    def predicted(self) -> NDArray[np.int64]:
        """Class of the highest score: [N, K] -> [N]; meaningless where ``scored`` is False."""
        return np.asarray(self.scores.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class MultiLabelPredictions:
    """The same where each video has any number of the classes."""

    scores: NDArray[np.float32]  # [N, K]
    labels: NDArray[np.bool_]  # [N, K]
    scored: NDArray[np.bool_]  # [N]
    paths: tuple[str, ...]  # [N]


@dataclass(frozen=True)
class RunFolder:
    """One run, ``runs/<name>/s<seed>``, read lazily: every method opens its file anew."""

    path: Path

    @property
    def name(self) -> str:
        """``<name>/s<seed>``."""
        resolved = self.path.resolve()
        return f"{resolved.parent.name}/{resolved.name}"

    def state(self) -> str:
        """RUNNING, DONE, FAILED, PREEMPTED, or an empty string when status.json says nothing."""
        state = read_mapping(self.path / "status.json").get("state", "")
        return state if isinstance(state, str) else ""

    def reason(self) -> str:
        reason = read_mapping(self.path / "status.json").get("reason")
        return "" if reason is None else str(reason)

    def costs(self) -> Mapping[str, Any]:
        return read_mapping(self.path / "costs.json")

    def environment(self) -> Mapping[str, Any]:
        return read_mapping(self.path / "env.json")

    def config(self) -> str:
        return read_text(self.path / "config.yaml")

    def differences(self) -> Mapping[str, Any]:
        """Keys of the config that differ from the defaults -> [default, here]; None for a key that is not there."""
        return read_mapping(self.path / "differences.json")

    def classes(self) -> tuple[str, ...]:
        """Names in the order of their labels, from classes.txt; empty when the file is missing."""
        text = read_text(self.path / "classes.txt").rstrip()
        return tuple(line.strip() for line in text.split("\n")) if text else ()

    def num_classes(self) -> int | None:
        """From classes.txt, else from the first predictions that can be read."""
        if classes := self.classes():
            return len(classes)
        for views in self.views():
            if (predictions := self.predictions(views)) is not None:
                return predictions.num_classes
        return None

    def metrics(self, kind: str) -> list[Mapping[str, Any]]:
        """The records of one kind ('train' or 'val') in the order of their steps, one per step.

        A resumed run repeats the steps after its checkpoint: the later record counts. Lines that are no JSON (the
        last one of a killed run) are left out.
        """
        by_step: dict[int, Mapping[str, Any]] = {}
        for line in read_text(self.path / "metrics.jsonl").split("\n"):
            record = parse_mapping(line)
            step = record.get("step")
            if record.get("kind") == kind and isinstance(step, int):
                by_step[step] = record
        return [by_step[step] for step in sorted(by_step)]

    def views(self) -> tuple[str, ...]:
        """Names of the evaluations with a usable result, most views first: ('10x3', '1x1').

        A folder that holds nothing but the results of one test (``nlnet test --out``) has that one.
        """
        names = [file.parent.name for file in (self.path / "eval").glob(f"*/{RESULTS_FILE}")]
        if not names and isinstance(alone := read_mapping(self.path / RESULTS_FILE).get("views"), str):
            names = [alone]
        return tuple(sorted((name for name in names if self.results(name)), key=lambda name: (-num_views(name), name)))

    def evaluation(self, views: str) -> Path:
        """Where the files of one evaluation are."""
        folder = self.path / "eval" / views
        return folder if folder.is_dir() or not (self.path / RESULTS_FILE).is_file() else self.path

    def results(self, views: str) -> Mapping[str, Any]:
        """results.json of one evaluation; empty unless it has a finite top-1 or, for several labels, mAP."""
        results = read_mapping(self.evaluation(views) / RESULTS_FILE)
        return results if number(results, "top1") is not None or number(results, "map") is not None else {}

    def per_class(self, views: str) -> list[Mapping[str, str]]:
        return read_csv(self.evaluation(views) / PER_CLASS_FILE, required=("class", "videos"))

    def bad_videos(self) -> list[Mapping[str, str]]:
        """Path and reason of each training video that could not be decoded."""
        return read_csv(self.path / BAD_VIDEOS_FILE, required=("path", "reason"))

    def unscored(self, views: str) -> list[Mapping[str, str]]:
        """Path and reason of each video of an evaluation that could not be decoded."""
        return read_csv(self.evaluation(views) / UNSCORED_FILE, required=("path", "reason"))

    def contact_sheet(self) -> bytes:
        """The PNG, or no bytes when it is missing or not whole."""
        return read_png(self.path / "contact_sheet.png")

    def predictions(self, views: str) -> Predictions | None:
        """Scores and labels of the videos of one evaluation, where each has one label."""
        return read_predictions(self.evaluation(views))

    def multi_label_predictions(self, views: str) -> MultiLabelPredictions | None:
        """Scores and labels of the videos of one evaluation, where each has any number of labels."""
        scores, labels, scored, paths = _read_arrays(self.evaluation(views))
        if labels.dtype != bool or labels.shape != scores.shape or not len(scores):
            return None
        return MultiLabelPredictions(scores, labels, scored, paths)


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number under ``key``, else None."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_predictions(evaluation: Path) -> Predictions | None:
    """Scores and labels of the videos of one evaluation's folder, where each video has one label."""
    scores, labels, scored, paths = _read_arrays(evaluation)
    if labels.ndim != 1 or not scores.shape[1]:
        return None
    if len(labels) and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        return None
    return Predictions(scores, labels, scored, paths)


def _read_arrays(evaluation: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], tuple[str, ...]]:
    """Scores [N, K], labels [N] or [N, K], scored [N] and paths [N]; of no video and no class where they do not fit."""
    nothing = np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=bool), ()
    try:
        with np.load(evaluation / PREDICTIONS_FILE, allow_pickle=False) as arrays:
            scores, labels = np.asarray(arrays["scores"]), np.asarray(arrays["labels"])
            scored, paths = np.asarray(arrays["scored"], dtype=bool), np.asarray(arrays["paths"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return nothing
    if scores.ndim != 2 or not len(scores) == len(labels) == len(scored) == len(paths):
        return nothing
    return scores, labels, scored, tuple(str(path) for path in paths)


def num_views(name: str) -> int:
    """How many views the name of an evaluation promises: '10x3' -> 30, 'mmaction2_10x3' -> 30, 'fcn' -> 1."""
    found = re.search(r"(?:^|_)(\d+)x(\d*)", name)
    return math.prod(int(digits) for digits in found.groups() if digits) if found else 1


def read_text(path: Path) -> str:
    """The file as text, empty when it cannot be read; bytes that are no UTF-8 become replacement marks."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_png(path: Path) -> bytes:
    """The PNG, or no bytes when it is missing or not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    whole = data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    return data if whole else b""


def parse_mapping(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_mapping(path: Path) -> Mapping[str, Any]:
    return parse_mapping(read_text(path))


def read_csv(path: Path, *, required: tuple[str, ...]) -> list[Mapping[str, str]]:
    """Rows of a CSV with a header; rows that lack a required column (a half-written last line) are left out."""
    # csv refuses NUL bytes, which a machine that lost power leaves at the end of a file.
    text = read_text(path).replace("\0", "")
    try:
        return [
            row for row in csv.DictReader(io.StringIO(text, newline="")) if all(row.get(column) for column in required)
        ]
    except csv.Error:
        return []
