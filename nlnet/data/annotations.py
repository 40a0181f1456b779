"""Which videos there are and what they show: class folders, or lists of ``path label``. Refused with file and line.

Labels are integers from 0; class number k is line k + 1 of the classes file, or the k-th class folder in order of name.
"""

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from difflib import get_close_matches

from nlnet.data.decoders import unreadable
from nlnet.errors import ConfigError, DataError

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts"}
)

_LAYOUT = "expected ROOT/<class>/*.mp4, or ROOT/train/<class>/*.mp4 and ROOT/val/<class>/*.mp4"


@dataclass(frozen=True)
class Video:
    """One labelled video."""

    path: str  # absolute
    label: int
    name: str  # as the list writes it, or relative to the root


@dataclass(frozen=True)
class VideoList:
    """The videos of one split."""

    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    source: str  # the list file or folder

    def __len__(self) -> int:
        return len(self.videos)

    def digest(self) -> str:
        """SHA-256 of the names, labels and classes, not of where they lie: equal lists on two machines agree."""
        content = [list(self.classes), [[video.name, video.label] for video in self.videos]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Annotations:
    """The training and the validation videos, of the same classes."""

    train: VideoList
    val: VideoList

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by label."""
        return self.train.classes


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
    names = _read_classes(named) if classes is not None or os.path.isfile(named) else None
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


def from_folder(*, root: str, val_fraction: float = 0.2, seed: int = 0) -> Annotations:
    """Videos from one folder per class: root/train/<class>/* and root/val/<class>/*, or root/<class>/*.

    In the second form ``val_fraction`` of each class (rounded, at least one video where there are two) becomes the
    validation set. Which ones depends on ``seed`` and the file names only: a video added later moves no other.
    """
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder; {_LAYOUT}")
    train_root, val_root = os.path.join(root, "train"), os.path.join(root, "val")
    folders = _class_folders(root)
    if "val" in folders and "train" in folders:
        train, val = _class_folders(train_root), _class_folders(val_root)
        if unknown := sorted(val.keys() - train.keys()):
            raise DataError(f"{os.path.join(val_root, unknown[0])}: no such class in {train_root}; {_LAYOUT}")
        classes = tuple(sorted(train))
        return Annotations(
            VideoList(_folder_videos(root, "train", classes, train), classes, train_root),
            VideoList(_folder_videos(root, "val", classes, val), classes, val_root),
        )
    if "train" in folders and not folders["train"]:
        raise DataError(f"{train_root}: found, but no {val_root}: add it, or set data.root={train_root} to split that")
    if not 0 < val_fraction < 1:
        raise ConfigError(f"data.annotations.val_fraction must lie between 0 and 1, not {val_fraction}")
    classes = tuple(sorted(folders))
    held_out = {name: _held_out(name, files, val_fraction, seed) for name, files in folders.items()}
    kept = {name: [file for file in files if file not in held_out[name]] for name, files in folders.items()}
    val_videos = _folder_videos(root, "", classes, held_out, allow_empty=True)
    if not val_videos:
        raise DataError(f"{root}: every class has a single video, so none is left for validation; add videos")
    return Annotations(
        VideoList(_folder_videos(root, "", classes, kept), classes, root), VideoList(val_videos, classes, root)
    )


def find_missing(videos: VideoList) -> list[tuple[Video, str]]:
    """The videos whose file is missing or empty, each with the reason. Looks at directory entries only."""
    blocks = [videos.videos[first : first + 256] for first in range(0, len(videos), 256)]
    # Threads, because a network file system answers one question in milliseconds but many at once.
    with ThreadPoolExecutor(max_workers=16) as pool:
        reasons = pool.map(lambda block: [(video, unreadable(video.path)) for video in block], blocks)
        return [(video, reason) for block in reasons for video, reason in block if reason is not None]


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig", newline=None) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read_classes(path: str) -> tuple[str, ...]:
    lines = [line.strip() for line in _read_text(path).rstrip().split("\n")]
    for number, name in enumerate(lines, start=1):
        if not name:
            raise DataError(f"{path}:{number}: empty line; write one class name per line, in the order of the labels")
        if name in lines[: number - 1]:
            raise DataError(f"{path}:{number}: class {name!r} is already on line {lines.index(name) + 1}; remove one")
    return tuple(lines)


def _read_entries(path: str) -> list[_Entry]:
    """The lines of a list file of either form; at least one."""
    numbered = [(n, line) for n, line in enumerate(_read_text(path).split("\n"), start=1) if line.strip()]
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


def _class_folders(root: str) -> dict[str, list[str]]:
    """Class name -> its video files, sorted; hidden files and files of other kinds are left out."""
    folders: dict[str, list[str]] = {}
    with os.scandir(root) as listing:
        for folder in sorted(listing, key=lambda entry: entry.name):
            if folder.is_dir() and not folder.name.startswith("."):
                folders[folder.name] = sorted(file for file in os.listdir(folder) if _is_video(file))
    if not folders:
        raise DataError(f"{root}: no class folders; {_LAYOUT}")
    return folders


def _is_video(file: str) -> bool:
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_EXTENSIONS


def _folder_videos(
    root: str, split: str, classes: tuple[str, ...], folders: dict[str, list[str]], *, allow_empty: bool = False
) -> tuple[Video, ...]:
    videos = []
    for name, files in folders.items():
        if not files and not allow_empty:
            raise DataError(
                f"{os.path.join(root, split, name)}: no videos; {_LAYOUT} "
                f"(one of {' '.join(sorted(VIDEO_EXTENSIONS))}), or remove the folder"
            )
        for file in files:
            relative = os.path.join(split, name, file)
            videos.append(Video(os.path.abspath(os.path.join(root, relative)), classes.index(name), relative))
    return tuple(videos)


def _held_out(class_name: str, files: list[str], fraction: float, seed: int) -> list[str]:
    """The validation videos of one class: those whose hashed name comes first."""
    count = min(max(1, round(len(files) * fraction)), len(files) - 1)
    ranked = sorted(files, key=lambda file: hashlib.sha256(f"{seed}/{class_name}/{file}".encode()).digest())
    return sorted(ranked[: max(0, count)])
