"""Writing results so that a file under its final name is a whole one."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Another path to write to, hidden and in the same folder: what is there at the end gets the name ``path``.

    It has the same extension, and is on the disk before it is renamed. After an error there is nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".part-{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """A CSV with a header; returns the number of rows."""
    count = 0
    with written_whole(path) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def write_text(path: str | Path, text: str) -> None:
    """A text file, whole or not at all."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
