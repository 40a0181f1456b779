"""HMDB-51: a file CLASS_test_split1.txt, 2 and 3, for each class; classes are numbered in alphabetical order."""

import os

from nlnet.data.annotations.records import Annotations, Entry, Video, assemble, check_num_classes
from nlnet.data.annotations.text import read_lines
from nlnet.data.annotations.video_files import VideoFiles, stem_of
from nlnet.errors import ConfigError, DataError

_TRAIN, _TEST, _UNUSED = "1", "2", "0"


def from_splits(
    *,
    root: str,
    split: int = 1,
    lists: str = "testTrainMulti_7030_splits",
    videos: str = "hmdb51_org",
    num_classes: int | None = 51,
) -> Annotations:
    """One of the three published splits; its test videos are the validation set.

    Lines are ``VIDEO.avi FLAG``: 1 is for training, 2 for testing, 0 for neither. The container of a video does not
    count. ``lists`` and ``videos`` are relative to ``root``.
    """
    if split not in (1, 2, 3):
        raise ConfigError(f"data.annotations.split must be 1, 2 or 3, not {split}")
    folder, ending = os.path.join(root, lists), f"_test_split{split}.txt"
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of split files; set data.root, or data.annotations.lists")
    classes = sorted(file.removesuffix(ending) for file in os.listdir(folder) if file.endswith(ending))
    if not classes:
        raise DataError(f"{folder}: no files CLASS{ending}")
    check_num_classes(folder, len(classes), num_classes)
    files = VideoFiles(os.path.join(root, videos), key="data.annotations.videos")
    by_flag: dict[str, list[Entry]] = {_TRAIN: [], _TEST: [], _UNUSED: []}
    for label, name in enumerate(classes):
        path = os.path.join(folder, name + ending)
        for line, text in read_lines(path):
            where = f"{path}:{line}"
            file, _, flag = text.rpartition(" ")
            if not file or flag not in by_flag:
                raise DataError(f"{where}: not 'VIDEO FLAG' with a flag of 0, 1 or 2 but {text!r}")
            file = file.strip()
            found = files.find(stem_of(file), preferred=name)
            video = Video(found or files.expected(name, file), label, f"{name}/{file}")
            by_flag[flag].append(Entry(where, video))
    return assemble(by_flag[_TRAIN], by_flag[_TEST], classes=classes, sources=(folder, folder))
