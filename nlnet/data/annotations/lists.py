"""Lists of ``path label``, plain or CSV. Refused with file and line.

Labels are integers from 0; class number k is line k + 1 of the classes file.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from nlnet.data.annotations.records import Annotations, Video, VideoList
from nlnet.data.annotations.text import read_classes, read_text
from nlnet.errors import DataError


@dataclass(frozen=True)
class _Entry:
    """One line of a list."""

    line: int
    name: str
    label: str  # as written


def from_lists(*, root: str, train: str, val: str, classes: str | None = None) -> Annotations:
    """Videos from two list files and, optionally, a file of class names.

    All three are relative to ``root`` or absolute; so are the paths in the lists. ``read_list`` has the forms. Where
    ``classes`` is not given, root/classes.txt is taken if there is one. Without it the labels must be integers; there
    are as many classes as the highest label of the two lists says, named class_0, class_1, ...
    """
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder; set data.root to the folder that the lists' paths start from")
    named = os.path.join(root, classes or "classes.txt")
    names = read_classes(named) if classes is not None or os.path.isfile(named) else None
    lists = [read_list(os.path.join(root, source), root=root, classes=names) for source in (train, val)]
    if names is None:
        names = max((videos.classes for videos in lists), key=len)
    training, validation = (replace(videos, classes=names) for videos in lists)
    training_names = {video.path: video.name for video in training.videos}
    for video in validation.videos:
        if video.path in training_names:
            raise DataError(
                f"{_line_of(validation.source, video.name)}: {video.name} is also a training video "
                f"({_line_of(training.source, training_names[video.path])}); remove it from one of the two lists"
            )
    return Annotations(training, validation)


def read_list(path: str, *, root: str, classes: Sequence[str] | None = None) -> VideoList:
    """One list file: lines ``path label``, or CSV or TSV with a header that has the columns path and label.

    In the first form the label is what follows the last space, so paths may contain spaces. The label is a number,
    or one of ``classes``. Empty lines are skipped; relative paths start from ``root``. DataError names file and line.
    """
    names = None if classes is None else tuple(classes)
    entries = _read_entries(path)
    labels = _labels(path, entries, names)
    if names is None:
        names = tuple(f"class_{label}" for label in range(max(labels) + 1))
    return VideoList(_videos(path, entries, labels, root), names, path)


def _read_entries(path: str) -> list[_Entry]:
    """The lines of a list file of either form; at least one."""
    numbered = [(n, line) for n, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    header = numbered[0][1] if numbered else ""
    for delimiter in (",", "\t"):
        columns = [column.strip().lower() for column in header.split(delimiter)]
        if "path" in columns and "label" in columns:
            entries = [_table_entry(path, number, line, delimiter, columns) for number, line in numbered[1:]]
            break
    else:
        entries = [_plain_entry(path, number, line) for number, line in numbered]
    if not entries:
        raise DataError(f"{path}: the list has no videos; write lines 'path label'")
    return entries


def _line_of(path: str, name: str) -> str:
    """FILE:LINE of a video in a list."""
    return f"{path}:{next(entry.line for entry in _read_entries(path) if entry.name == name)}"


def _plain_entry(path: str, number: int, line: str) -> _Entry:
    parts = line.strip().rsplit(None, 1)
    if len(parts) != 2:
        raise DataError(
            f"{path}:{number}: no label in {line.strip()!r}; write 'path label', or a first line 'path,label' for CSV"
        )
    return _Entry(number, *parts)


def _table_entry(path: str, number: int, line: str, delimiter: str, columns: list[str]) -> _Entry:
    fields = next(csv.reader([line], delimiter=delimiter))
    if len(fields) != len(columns):
        raise DataError(
            f"{path}:{number}: {len(fields)} fields where the header has {len(columns)}; "
            "put fields that contain the separator in double quotes"
        )
    name, label = fields[columns.index("path")].strip(), fields[columns.index("label")].strip()
    for column, field in (("path", name), ("label", label)):
        if not field:
            raise DataError(f"{path}:{number}: the {column} is empty")
    return _Entry(number, name, label)


def _labels(path: str, entries: list[_Entry], classes: tuple[str, ...] | None) -> list[int]:
    """The labels of a list as numbers, each checked."""
    numbers = {name: label for label, name in enumerate(classes or ())}
    labels = []
    for entry in entries:
        try:
            label = int(entry.label)
        except ValueError:
            if entry.label not in numbers:
                raise DataError(f"{path}:{entry.line}: {_unknown_label(entry.label, classes)}") from None
            label = numbers[entry.label]
        if label < 0:
            raise DataError(f"{path}:{entry.line}: label {label} is negative; labels start at 0")
        if classes is not None and label >= len(classes):
            hint = "labels start at 0: subtract 1 from all of them" if label == len(classes) else "mend the label"
            raise DataError(
                f"{path}:{entry.line}: label {label}, but there are {len(classes)} classes, 0 to {len(classes) - 1}; "
                f"{hint}, or add the class to the classes file"
            )
        labels.append(label)
    return labels


def _unknown_label(label: str, classes: tuple[str, ...] | None) -> str:
    if classes is None:
        return (
            f"label {label!r} is not a whole number; write 'path label' with labels from 0, "
            "or name the classes in a file: data.annotations.classes=classes.txt"
        )
    near = get_close_matches(label, classes, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "mend it or add it to the classes file"
    return f"label {label!r} is neither a whole number nor a class name; {hint}"


def _videos(path: str, entries: list[_Entry], labels: list[int], root: str) -> tuple[Video, ...]:
    lines: dict[str, int] = {}
    videos = []
    for entry, label in zip(entries, labels, strict=True):
        video = Video(os.path.abspath(os.path.join(root, entry.name)), label, entry.name)
        if video.path in lines:
            raise DataError(f"{path}:{entry.line}: {entry.name} is already on line {lines[video.path]}; remove one")
        lines[video.path] = entry.line
        videos.append(video)
    return tuple(videos)
