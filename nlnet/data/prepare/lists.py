"""``nlnet data lists``: any data set that training reads -> plain lists, which the other verbs take."""

import os
from collections.abc import Iterator
from pathlib import Path

from nlnet.data.annotations import Annotations, VideoList, find_missing
from nlnet.data.decoders import Decoder
from nlnet.data.prepare.files import write_table, write_text
from nlnet.data.prepare.sources import unlistable


def write_lists(annotations: Annotations, root: str, out: Path, *, decoder: Decoder) -> str:
    """Writes OUT/train.csv and val.csv (path,label; paths from ``root``), classes.txt, skipped.csv -> a summary.

    Several labels are one field, ``3,17``. Videos that are missing or empty, as
    ``decoder`` sees it, are left out and listed.
    """
    start = os.path.abspath(root)
    skipped: list[tuple[str, str]] = []
    lines = []
    for part, videos in (("train", annotations.train), ("val", annotations.val)):
        bad = {video.path: reason for video, reason in find_missing(videos, unreadable=decoder.unreadable)}
        rows = _rows(videos, start, bad, skipped)
        lines.append(f"{out}/{part}.csv: {write_table(out / f'{part}.csv', ('path', 'label'), rows)} videos")
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in annotations.classes))
    write_table(out / "skipped.csv", ("path", "reason"), skipped)
    lines.append(f"{out}/classes.txt: {len(annotations.classes)} classes")
    return "\n".join([*lines, f"{len(skipped)} videos are left out: {out}/skipped.csv"])


def _rows(
    videos: VideoList, start: str, bad: dict[str, str], skipped: list[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    for video in videos.videos:
        path = os.path.relpath(video.path, start)
        if reason := bad.get(video.path) or unlistable(path):
            skipped.append((path, reason))
        else:
            labels = video.label if isinstance(video.label, tuple) else (video.label,)
            yield path, ",".join(map(str, labels))
