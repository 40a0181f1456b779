"""Something-Something v2: JSON files of labels and videos; the videos are ID.webm in one folder."""

import os
from typing import Any

from nlnet.data.annotations.records import Annotations, Entry, Video, assemble, check_num_classes
from nlnet.data.annotations.text import number_of, read_json, read_json_array
from nlnet.data.annotations.video_files import VideoFiles
from nlnet.errors import DataError


def from_json(
    *,
    root: str,
    labels: str = "something-something-v2-labels.json",
    train: str = "something-something-v2-train.json",
    val: str = "something-something-v2-validation.json",
    videos: str = "20bn-something-something-v2",
    num_classes: int | None = 174,
) -> Annotations:
    """The published files: ``labels`` maps a template without brackets to its number, the others list videos.

    The template of a video, "Holding [something]", is a class once its brackets are gone. The container of a video
    does not count. All paths are relative to ``root``.
    """
    numbers = _read_labels(os.path.join(root, labels))
    check_num_classes(os.path.join(root, labels), len(numbers), num_classes)
    files = VideoFiles(os.path.join(root, videos), key="data.annotations.videos")
    sources = os.path.join(root, train), os.path.join(root, val)
    training, validation = (
        [_entry(where, video, numbers, files) for where, video in read_json_array(source)] for source in sources
    )
    return assemble(training, validation, classes=sorted(numbers, key=lambda name: numbers[name]), sources=sources)


def _read_labels(path: str) -> dict[str, int]:
    """{"Holding something": "0", …} -> numbers, each from 0 on once."""
    content = read_json(path)
    try:
        numbers = {name: int(number) for name, number in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}:1: not an object of templates and their numbers ({error})") from error
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise DataError(f"{path}:1: the numbers of its {len(numbers)} classes are not 0 to {len(numbers) - 1}")
    return numbers


def _entry(where: str, video: dict[str, Any], numbers: dict[str, int], files: VideoFiles) -> Entry:
    if "template" not in video:
        raise DataError(f"{where}: a video without 'template'; the test list has no labels: take train and validation")
    if "id" not in video:
        raise DataError(f"{where}: a video without 'id'")
    name = str(video["id"])
    label = number_of(where, str(video["template"]).replace("[", "").replace("]", ""), numbers, what="template")
    return Entry(where, Video(files.find(name) or files.expected(f"{name}.webm"), label, name))
