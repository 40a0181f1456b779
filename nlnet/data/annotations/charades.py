"""Charades: videos of everyday tasks with several timed actions each, out of 157; some have none."""

import os

from nlnet.data.annotations.records import Action, Annotations, Entry, Video, assemble, check_num_classes
from nlnet.data.annotations.text import read_lines, read_table
from nlnet.data.annotations.video_files import VideoFiles
from nlnet.errors import DataError


def from_csv(
    *,
    root: str,
    train: str = "Charades/Charades_v1_train.csv",
    val: str = "Charades/Charades_v1_test.csv",
    classes: str = "Charades/Charades_v1_classes.txt",
    videos: str = "Charades_v1_480",
    num_classes: int | None = 157,
    timed: bool = True,
) -> Annotations:
    """The published CSVs, of which the columns id and actions count ("c092 11.90 21.20;c147 0.00 12.60", seconds).

    A video's label is the tuple of all its classes. The published test list, whose labels are public, is the validation
    set. The container of a video does not count. All paths are relative to ``root``.

    Args:
        classes: lines ``c000 Holding some clothes``.
        timed: whether a training clip has the classes of its own seconds only (as slowfast/datasets/charades.py has
            it), or all those of its video. In a test it is always all.
    """
    index = os.path.join(root, classes)
    names = _read_classes(index)
    check_num_classes(index, len(names), num_classes)
    files = VideoFiles(os.path.join(root, videos), key="data.annotations.videos")
    sources = os.path.join(root, train), os.path.join(root, val)
    training = _entries(sources[0], len(names), files, timed=timed)
    return assemble(training, _entries(sources[1], len(names), files, timed=False), classes=names, sources=sources)


def _read_classes(path: str) -> list[str]:
    names: list[str] = []
    for line, text in read_lines(path):
        code, _, name = text.partition(" ")
        if code != f"c{len(names):03d}" or not name.strip():
            raise DataError(f"{path}:{line}: 'c{len(names):03d} CLASS' is expected here, not {text!r}")
        names.append(name.strip())
    return names


def _entries(path: str, num_classes: int, files: VideoFiles, *, timed: bool) -> list[Entry]:
    entries = []
    for where, row in read_table(path, columns=("id", "actions")):
        name = row["id"]
        if not name:
            raise DataError(f"{where}: the id is empty")
        actions = tuple(_action(where, text, num_classes) for text in row["actions"].split(";") if text.strip())
        label = tuple(sorted({action.label for action in actions}))
        video = Video(files.find(name) or files.expected(f"{name}.mp4"), label, name, actions if timed else ())
        entries.append(Entry(where, video))
    return entries


def _action(where: str, text: str, num_classes: int) -> Action:
    """``c092 11.90 21.20`` -> Action."""
    try:
        code, start, end = text.split()
        action = Action(int(code.removeprefix("c")), float(start), float(end))
    except ValueError:
        raise DataError(f"{where}: {text.strip()!r} is not an action such as 'c092 11.90 21.20'") from None
    if not code.startswith("c") or not 0 <= action.label < num_classes:
        raise DataError(f"{where}: no class {code!r}: they are c000 to c{num_classes - 1:03d}")
    return action
