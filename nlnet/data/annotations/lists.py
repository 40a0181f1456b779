"""Lists of ``path label``, plain or CSV: SlowFast's, MMAction2's, gluon-cv's, TSM's. Refused with file and line.

Labels are integers from 0; class number k is line k + 1 of the classes file.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import NamedTuple

from nlnet.data.annotations.records import Annotations, Label, Video, VideoList
from nlnet.data.annotations.text import iterate_lines, read_classes
from nlnet.data.annotations.video_files import VideoFiles, stem_of
from nlnet.errors import DataError


@dataclass(frozen=True)
class ListForm:
    """How the lines of a list without header are divided: ``PATH [FRAMES] LABEL``, or with several labels at the end.

    Args:
        separator: between the fields; None for white space, of which paths may have some too.
        frames: whether a number of frames stands in front of the label, as in the lists of TSM and gluon-cv. It is
            skipped: the files say it. None finds out: all lines have a whole number there, and no path ends with it.
        several_labels: whether a video has any number of labels. In a CSV they are one field, such as "3,17".
    """

    separator: str | None = None
    frames: bool | None = None
    several_labels: bool = False


PLAIN = ListForm()


@dataclass(frozen=True)
class ListFolders:
    """Where the videos of the two lists are, relative to the root, and whether to look for them.

    Args:
        any_container: whether of a path only the stem counts, looked up in that folder and the folders directly below
            it: ``a/b.mp4`` is found as ``a/b.webm``, ``b`` as ``c/b.mkv``; of several the one in a folder of that name.
    """

    train: str = ""
    val: str = ""
    any_container: bool = False


ROOT = ListFolders()


class Entry(NamedTuple):
    """One line of a list."""

    line: int
    name: str
    label: str  # as written


def from_lists(
    *,
    root: str,
    train: str,
    val: str,
    classes: str | None = None,
    form: ListForm = PLAIN,
    folders: ListFolders = ROOT,
) -> Annotations:
    """Videos from two list files and, optionally, a file of class names.

    All three are relative to ``root`` or absolute; so are the paths in the lists, which start from ``folders``.
    ``read_list`` has the forms. Where ``classes`` is not given, root/classes.txt is taken if there is one. Without it
    the labels must be integers; there are as many classes as the highest label of the two lists says, named class_0,
    class_1, ...
    """
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder; set data.root to the folder that the lists' paths start from")
    named = os.path.join(root, classes or "classes.txt")
    names = read_classes(named) if classes is not None or os.path.isfile(named) else None
    sources = [
        (os.path.join(root, source), os.path.join(root, folder), key)
        for source, folder, key in ((train, folders.train, "train"), (val, folders.val, "val"))
    ]
    lists = [read_list(path, root=folder, classes=names, form=form) for path, folder, _ in sources]
    if names is None:
        names = max((videos.classes for videos in lists), key=len)
        _check_start(lists, form)
    if folders.any_container:
        lists = [
            _found(videos, VideoFiles(folder, key=f"data.annotations.folders.{key}"))
            for videos, (_, folder, key) in zip(lists, sources, strict=True)
        ]
    training, validation = (replace(videos, classes=names) for videos in lists)
    training_names = {video.path: video.name for video in training.videos}
    for video in validation.videos:
        if video.path in training_names:
            raise DataError(
                f"{_line_of(validation.source, video.name, form)}: {video.name} is also a training video "
                f"({_line_of(training.source, training_names[video.path], form)}); remove it from one of the two lists"
            )
    return Annotations(training, validation)


def _check_start(lists: Sequence[VideoList], form: ListForm) -> None:
    """Refuses labels from 1, where no file names the classes."""
    labels = [video.label for videos in lists for video in videos.videos]
    if not any(label == 0 or (isinstance(label, tuple) and 0 in label) for label in labels):
        where = _line_of(lists[0].source, lists[0].videos[0].name, form)
        raise DataError(
            f"{where}: no video of the two lists has label 0; labels start at 0: subtract what all have too much, or "
            "name the classes in a file: data.annotations.classes=classes.txt"
        )


def read_list(path: str, *, root: str, classes: Sequence[str] | None = None, form: ListForm = PLAIN) -> VideoList:
    """One list file: lines ``path label``, or CSV or TSV with a header that has the columns path and label.

    In the first form the label is what follows the last space, so paths may contain spaces, and may be in quotes; a
    number of frames in front of the label is skipped (``ListForm``). The label is a number, or one of ``classes``.
    Empty lines are skipped; relative paths start from ``root``. DataError names file and line.
    """
    names = None if classes is None else tuple(classes)
    entries = list(iterate_list(path, root=root, form=form))
    labels = _labels(path, entries, names, several=form.several_labels)
    if names is None:
        highest = max(
            (each for label in labels for each in (label if isinstance(label, tuple) else (label,))), default=0
        )
        names = tuple(f"class_{label}" for label in range(highest + 1))
    return VideoList(_videos(path, entries, labels, root), names, path)


def iterate_list(path: str, *, root: str = "", form: ListForm = PLAIN) -> Iterator[Entry]:
    """The lines of a list file of either form, one after the other; at least one."""
    lines = iterate_lines(path)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: the list has no videos; write lines 'path label'")
    for delimiter in (",", "\t"):
        columns = [column.strip().lower() for column in first[1].split(delimiter)]
        if "path" in columns and "label" in columns:
            empty = True
            for number, line in lines:
                yield _table_entry(path, number, line, delimiter, columns, several=form.several_labels)
                empty = False
            if empty:
                raise DataError(f"{path}: the list has no videos; write lines 'path label'")
            return
    frames = _has_frames(path, root, form) if form.frames is None else form.frames
    yield _plain_entry(path, *first, form=form, frames=frames)
    for number, line in lines:
        yield _plain_entry(path, number, line, form=form, frames=frames)


def _has_frames(path: str, root: str, form: ListForm) -> bool:
    """Whether all lines are ``PATH FRAMES LABEL``; not where the first path is there with its number."""
    if form.several_labels:
        return False
    for number, (_, line) in enumerate(iterate_lines(path)):
        fields = line.strip().rsplit(form.separator, 2)
        if len(fields) != 3 or not fields[1].strip().isdecimal():
            return False
        if number == 0 and os.path.exists(os.path.join(root, line.strip().rsplit(form.separator, 1)[0])):
            return False
    return True


def _line_of(path: str, name: str, form: ListForm) -> str:
    """FILE:LINE of a video in a list."""
    return f"{path}:{next(entry.line for entry in iterate_list(path, form=form) if entry.name == name)}"


def _plain_entry(path: str, number: int, line: str, *, form: ListForm, frames: bool) -> Entry:
    if form.several_labels:
        name, label = _divide_labels(line.strip(), form.separator)
        if frames:
            count, _, label = label.partition(" ")
            if not count:
                raise DataError(f"{path}:{number}: no number of frames in {line.strip()!r}; write 'path frames labels'")
        return Entry(number, name, label)
    parts = line.strip().rsplit(form.separator, 2 if frames else 1)
    if frames and (len(parts) != 3 or not parts[1].strip().isdecimal()):
        raise DataError(f"{path}:{number}: not 'path frames label' but {line.strip()!r}")
    if len(parts) < 2 or (form.separator is None and "," in parts[-1]):  # it would be taken for part of the label
        raise DataError(
            f"{path}:{number}: no label in {line.strip()!r}; write 'path label', or a first line 'path,label' for CSV"
        )
    name = parts[0].strip()
    if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    return Entry(number, name, parts[-1].strip())


def _divide_labels(line: str, separator: str | None) -> tuple[str, str]:
    """``a b.mp4 3 17`` -> ``a b.mp4``, ``3 17``: the labels are all whole numbers at the end, possibly none."""
    fields = line.split(separator)
    first = len(fields)
    while first > 1 and re.fullmatch(r"-?\d+(,\d+)*", fields[first - 1].strip()):
        first -= 1
    name = line if first == len(fields) else line.rsplit(separator, len(fields) - first)[0]
    return name.strip(), " ".join(field.strip() for field in fields[first:])


def _table_entry(path: str, number: int, line: str, delimiter: str, columns: list[str], *, several: bool) -> Entry:
    fields = next(csv.reader([line], delimiter=delimiter))
    if len(fields) != len(columns):
        raise DataError(
            f"{path}:{number}: {len(fields)} fields where the header has {len(columns)}; "
            "put fields that contain the separator in double quotes"
        )
    name, label = fields[columns.index("path")].strip(), fields[columns.index("label")].strip()
    for column, field in (("path", name), ("label", label)):
        if not field and not (several and column == "label"):
            raise DataError(f"{path}:{number}: the {column} is empty")
    return Entry(number, name, label)


def _labels(path: str, entries: list[Entry], classes: tuple[str, ...] | None, *, several: bool) -> list[Label]:
    """The labels of a list as numbers, each checked."""
    numbers = {name: label for label, name in enumerate(classes or ())}
    if several:
        return [
            tuple(sorted({_label(path, entry.line, each, numbers, classes) for each in _several(entry.label)}))
            for entry in entries
        ]
    return [_label(path, entry.line, entry.label, numbers, classes) for entry in entries]


def _several(written: str) -> list[str]:
    """``3,17`` or ``3 17`` -> labels; names of classes may have spaces, so commas and semicolons come first."""
    between = r"[,;]" if re.search(r"[,;]", written) or not re.fullmatch(r"[\d\s-]*", written) else r"\s+"
    return [each.strip() for each in re.split(between, written) if each.strip()]


def _label(path: str, line: int, written: str, numbers: dict[str, int], classes: tuple[str, ...] | None) -> int:
    try:
        label = int(written)
    except ValueError:
        if written not in numbers:
            raise DataError(f"{path}:{line}: {_unknown_label(written, classes)}") from None
        label = numbers[written]
    if label < 0:
        raise DataError(f"{path}:{line}: label {label} is negative; labels start at 0")
    if classes is not None and label >= len(classes):
        hint = "labels start at 0: subtract 1 from all of them" if label == len(classes) else "mend the label"
        raise DataError(
            f"{path}:{line}: label {label}, but there are {len(classes)} classes, 0 to {len(classes) - 1}; "
            f"{hint}, or add the class to the classes file"
        )
    return label


def _unknown_label(label: str, classes: tuple[str, ...] | None) -> str:
    if classes is None:
        return (
            f"label {label!r} is not a whole number; write 'path label' with labels from 0, "
            "or name the classes in a file: data.annotations.classes=classes.txt"
        )
    near = get_close_matches(label, classes, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "mend it or add it to the classes file"
    return f"label {label!r} is neither a whole number nor a class name; {hint}"


def _videos(path: str, entries: list[Entry], labels: list[Label], root: str) -> tuple[Video, ...]:
    lines: dict[str, int] = {}
    videos = []
    for entry, label in zip(entries, labels, strict=True):
        video = Video(os.path.abspath(os.path.join(root, entry.name)), label, entry.name)
        if video.path in lines:
            raise DataError(f"{path}:{entry.line}: {entry.name} is already on line {lines[video.path]}; remove one")
        lines[video.path] = entry.line
        videos.append(video)
    return tuple(videos)


def _found(videos: VideoList, files: VideoFiles) -> VideoList:
    """The list with the files that are there, whatever their container; those that are not keep their paths."""
    found = []
    for video in videos.videos:
        folder, file = os.path.split(video.name)
        path = files.find(stem_of(file), preferred=os.path.basename(folder))
        found.append(video if path is None else replace(video, path=path))
    return replace(videos, videos=tuple(found))
