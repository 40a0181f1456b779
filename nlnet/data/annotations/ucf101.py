"""UCF-101: classInd.txt, numbered from 1, and trainlist01.txt, testlist01.txt to 03."""

import os

from nlnet.data.annotations.records import Annotations, Entry, Video, assemble, check_num_classes
from nlnet.data.annotations.text import number_of, read_lines
from nlnet.data.annotations.video_files import VideoFiles, stem_of
from nlnet.errors import ConfigError, DataError


def from_splits(
    *,
    root: str,
    split: int = 1,
    lists: str = "ucfTrainTestlist",
    videos: str = "UCF-101",
    num_classes: int | None = 101,
) -> Annotations:
    """One of the three published splits; its test list is the validation set.

    Lines are ``Class/v_Class_g01_c01.avi 1``, without the number in test lists. Upper and lower case do not count
    (HandstandPushups is HandStandPushups in places), nor does the container. ``lists`` and ``videos`` are relative to
    ``root``.
    """
    if split not in (1, 2, 3):
        raise ConfigError(f"data.annotations.split must be 1, 2 or 3, not {split}")
    folder = os.path.join(root, lists)
    index = os.path.join(folder, "classInd.txt")
    classes = _read_index(index)
    check_num_classes(index, len(classes), num_classes)
    files = VideoFiles(os.path.join(root, videos), key="data.annotations.videos", ignore_case=True)
    sources = tuple(os.path.join(folder, f"{kind}list{split:02d}.txt") for kind in ("train", "test"))
    training, validation = (_entries(source, classes, files) for source in sources)
    return assemble(training, validation, classes=classes, sources=(sources[0], sources[1]))


def _read_index(path: str) -> list[str]:
    """Class names from lines ``1 ApplyEyeMakeup``, in the order of their numbers."""
    classes: list[str] = []
    for line, text in read_lines(path):
        number, _, name = text.partition(" ")
        if number != str(len(classes) + 1) or not name.strip():
            raise DataError(f"{path}:{line}: '{len(classes) + 1} CLASS' is expected here, not {text!r}")
        classes.append(name.strip())
    return classes


def _entries(path: str, classes: list[str], files: VideoFiles) -> list[Entry]:
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    entries = []
    for line, text in read_lines(path):
        where = f"{path}:{line}"
        name, _, written = text.partition(" ")
        folder, slash, file = name.partition("/")
        if not slash:
            raise DataError(f"{where}: not 'CLASS/VIDEO' but {text!r}")
        label = number_of(where, folder.casefold(), numbers)
        if written.strip() and written.strip() != str(label + 1):
            raise DataError(f"{where}: class {written.strip()}, but {folder} is number {label + 1} in classInd.txt")
        found = files.find(stem_of(file), preferred=classes[label])
        entries.append(Entry(where, Video(found or files.expected(folder, file), label, name)))
    return entries
