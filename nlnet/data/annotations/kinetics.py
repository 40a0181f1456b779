"""Kinetics-400, -600 and -700: the CSVs of DeepMind and CVDF, and the lists of the authors' copy.

Class k is the k-th name in alphabetical order, which is also the authors' numbering (video-nonlocal-net,
process_data/kinetics/classids.json). Names have spaces and no quotes, whatever the files and folders have.
"""

import os
from collections import Counter

from nlnet.data.annotations.records import Annotations, Entry, Video, assemble, check_num_classes
from nlnet.data.annotations.text import number_of, read_lines, read_table
from nlnet.data.annotations.video_files import VideoFiles, stem_of
from nlnet.errors import DataError


def from_csv(
    *,
    root: str,
    train: str = "annotations/train.csv",
    val: str = "annotations/val.csv",
    train_videos: str = "train",
    val_videos: str = "val",
    num_classes: int | None = None,
) -> Annotations:
    """The published CSVs, with the columns label, youtube_id, time_start, time_end (seconds) and possibly more.

    A row's video is ``ID_SSSSSS_EEEEEE`` (CVDF; times in whole seconds, six digits), or ``ID`` (the authors' copy), of
    any container, in ``train_videos`` or ``val_videos`` or a folder directly below it. Some published copies have other
    times than the CSV: where one row and one file have an id, they belong together. A row without a file is kept, and
    counts as a missing video.

    Args:
        root: what all the other paths are relative to.
        num_classes: what the data set has; None for as many as the training list names.
    """
    splits = []
    for source, folder, split in ((train, train_videos, "train"), (val, val_videos, "val")):
        path = os.path.join(root, source)
        rows = [_row(where, fields) for where, fields in _table(path)]
        files = VideoFiles(os.path.join(root, folder), key=f"data.annotations.{split}_videos")
        splits.append((path, rows, files))
    classes = sorted({label for _, label, _, _ in splits[0][1]})
    check_num_classes(splits[0][0], len(classes), num_classes)
    numbers = {name: number for number, name in enumerate(classes)}
    training, validation = (_entries(rows, files, numbers) for _, rows, files in splits)
    return assemble(training, validation, classes=classes, sources=(splits[0][0], splits[1][0]))


def from_txt(
    *,
    root: str,
    train: str = "trainlist.txt",
    val: str = "vallist.txt",
    train_videos: str = "train",
    val_videos: str = "val",
    num_classes: int | None = None,
) -> Annotations:
    """The authors' lists: lines ``…/CLASS/ID.EXTENSION label``, wherever their copy lay and whatever its containers.

    Of a path the class folder and the id count; the video is looked for as ``from_csv`` does. Classes are the folders'
    names; a label that is not the place of its class in alphabetical order is refused.
    """
    splits = []
    for source, folder, split in ((train, train_videos, "train"), (val, val_videos, "val")):
        path = os.path.join(root, source)
        rows = [_list_row(f"{path}:{line}", text) for line, text in read_lines(path)]
        files = VideoFiles(os.path.join(root, folder), key=f"data.annotations.{split}_videos")
        splits.append((path, rows, files))
    classes = sorted({label for _, label, _, _ in splits[0][1]})
    check_num_classes(splits[0][0], len(classes), num_classes)
    numbers = {name: number for number, name in enumerate(classes)}
    for where, label, _, written in (row for _, rows, _ in splits for row in rows):
        if number_of(where, label, numbers) != int(written):
            raise DataError(
                f"{where}: label {written}, but {label!r} is number {numbers[label]} of the {len(classes)} classes "
                f"({classes[0]!r} is 0); take the whole lists, or data=lists for labels of your own"
            )
    training, validation = (
        _entries([(where, label, video_id, video_id) for where, label, video_id, _ in rows], files, numbers)
        for _, rows, files in splits
    )
    return assemble(training, validation, classes=classes, sources=(splits[0][0], splits[1][0]))


def class_name(written: str) -> str:
    """``"air drumming"``, ``air_drumming`` -> ``air drumming``."""
    return written.strip().strip('"').replace("_", " ").strip()


_Row = tuple[str, str, str, str]  # FILE:LINE, class, id, stem of the file


def _table(path: str) -> list[tuple[str, dict[str, str]]]:
    try:
        return list(read_table(path, columns=("label", "youtube_id", "time_start", "time_end")))
    except DataError as error:
        if "'label'" in str(error):
            raise DataError(f"{error}; the test list of Kinetics has no labels: take train and val") from error
        raise


def _row(where: str, fields: dict[str, str]) -> _Row:
    label, video_id = class_name(fields["label"]), fields["youtube_id"]
    for column in ("label", "youtube_id"):
        if not fields[column]:
            raise DataError(f"{where}: the {column} is empty")
    try:
        start, end = int(float(fields["time_start"])), int(float(fields["time_end"]))
    except ValueError:
        raise DataError(
            f"{where}: times {fields['time_start']!r} to {fields['time_end']!r} are not seconds; mend the row"
        ) from None
    return where, label, video_id, f"{video_id}_{start:06d}_{end:06d}"


def _list_row(where: str, text: str) -> _Row:
    """``…/CLASS/ID.EXTENSION label`` -> where, class, id, label."""
    path, _, label = text.rpartition(" ")
    parts = path.strip().split("/")
    if len(parts) < 2 or not label.isdecimal():
        raise DataError(f"{where}: not '…/CLASS/VIDEO label' but {text!r}")
    return where, class_name(parts[-2]), stem_of(parts[-1]), label


def _entries(rows: list[_Row], files: VideoFiles, numbers: dict[str, int]) -> list[Entry]:
    """Rows with the file of each; a row without one gets the path where it would be."""
    ids_of_rows = Counter(video_id for _, _, video_id, _ in rows)
    same_id: dict[str, list[str]] = {}
    for stem in files.stems():
        same_id.setdefault(_id_of(stem), []).append(stem)
    entries = []
    for where, label, video_id, stem in rows:
        path = files.find(stem, preferred=label) or files.find(video_id, preferred=label)
        if path is None and ids_of_rows[video_id] == 1 and len(same_id.get(video_id, ())) == 1:
            path = files.find(same_id[video_id][0])
        path = path or files.expected(label.replace(" ", "_"), f"{stem}.mp4")
        entries.append(Entry(where, Video(path, number_of(where, label, numbers), stem)))
    return entries


def _id_of(stem: str) -> str:
    """``-abc_DEF123_000010_000020`` -> ``-abc_DEF123``; ids may have underscores themselves."""
    parts = stem.rsplit("_", 2)
    timed = len(parts) == 3 and all(len(part) == 6 and part.isdecimal() for part in parts[1:])
    return parts[0] if timed else stem
