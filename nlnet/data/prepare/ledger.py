"""What has been found out about each video so far, on disk: a verb that was killed goes on, and memory stays small."""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from nlnet.data.prepare.sources import Listed
from nlnet.errors import ConfigError

_BLOCK = 1000  # rows read at a time
_SECONDS = 1.0  # of work that a kill may lose


class Row(NamedTuple):
    """A video and what is known of it."""

    name: str
    label: str
    facts: dict[str, Any]


class Ledger:
    """Names, labels and facts of videos in an SQLite file: ``OUT/.VERB.sqlite``.

    A fact holds for a file as long as its size and time of change are the same. One process at a time.

    Args:
        settings: the options that the facts depend on.

    Raises:
        ConfigError: another process works on it, or it was made with other settings.
    """

    def __init__(self, folder: Path, *, verb: str, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f".{verb}.sqlite"
        self._committed = time.monotonic()
        self._database = sqlite3.connect(self.path, isolation_level=None, timeout=1)
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("BEGIN EXCLUSIVE")
            self._database.execute("CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT)")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS videos (name TEXT PRIMARY KEY, label TEXT, place TEXT, wanted INTEGER, "
                "size INTEGER, changed INTEGER, facts TEXT) WITHOUT ROWID"
            )
            self._database.execute("CREATE INDEX IF NOT EXISTS places ON videos (place, name)")
        except sqlite3.Error as error:
            self._database.close()
            raise ConfigError(
                f"{self.path}: {error}; if another nlnet data {verb} is at work there let it end, else remove the "
                "file, or take an --out on a file system with locks"
            ) from error
        try:
            self.hold_to("options", json.dumps(dict(settings), sort_keys=True))
        except ConfigError:
            self.close()
            raise

    def hold_to(self, key: str, value: str) -> None:
        """Notes what this ledger was begun with. ConfigError if that was something else."""
        noted = self.noted(key)
        if noted is None:
            self.note(key, value)
        elif noted != value:
            raise ConfigError(
                f"{self.path}: begun with other {key}: {noted}, now {value}; give another --out, or remove that file"
            )

    def noted(self, key: str) -> str | None:
        """What was noted, or None."""
        row = self._database.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, key: str, value: str) -> None:
        """Keeps a text for good."""
        self._database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))
        self._commit()

    def fill(self, listed: Iterable[Listed], *, place: Callable[[Listed], str] | None = None) -> int:
        """Takes the names and labels of the sources, as they are now; facts known before stay. Returns how many.

        Args:
            place: what the videos are ordered by, then by name; None orders them by name.
        """
        self._database.execute("UPDATE videos SET wanted = 0")
        self._database.executemany(
            "INSERT INTO videos (name, label, place, wanted) VALUES (?, ?, ?, 1) "
            "ON CONFLICT (name) DO UPDATE SET wanted = 1, label = excluded.label, place = excluded.place",
            ((each.name, each.label, "" if place is None else place(each)) for each in listed),
        )
        self._commit()
        return len(self)

    def __len__(self) -> int:
        count: int = self._database.execute("SELECT count(*) FROM videos WHERE wanted").fetchone()[0]
        return count

    def labels(self) -> list[str]:
        """The labels that occur, sorted."""
        return [
            label for (label,) in self._database.execute("SELECT DISTINCT label FROM videos WHERE wanted ORDER BY 1")
        ]

    def pending(self, root: str, *, done: Callable[[Row], bool] | None = None) -> Iterator[tuple[str, str]]:
        """Names and paths of the videos of which nothing is known, or which have changed since.

        Args:
            done: whether what is known of a video is enough; None takes anything.
        """
        for name, label, facts, size, changed in self._blocks("label, facts, size, changed"):
            path = os.path.join(root, name)
            known = facts is not None and (size, changed) == _state(path)
            if not known or (done is not None and not done(Row(name, label, json.loads(facts)))):
                yield name, path

    def record(self, name: str, path: str, facts: Mapping[str, Any]) -> None:
        """Keeps what was found out about a video."""
        self._database.execute(
            "UPDATE videos SET size = ?, changed = ?, facts = ? WHERE name = ?",
            (*_state(path), json.dumps(dict(facts)), name),
        )
        if time.monotonic() - self._committed > _SECONDS:
            self._commit()

    def rows(self) -> Iterator[Row]:
        """All videos, in their order, with what is known of them."""
        for name, label, facts in self._blocks("label, facts"):
            yield Row(name, label, {} if facts is None else json.loads(facts))

    def _blocks(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """Name and columns in order, read in blocks: rows may be changed in between."""
        last = ("", "")
        while block := self._database.execute(
            f"SELECT place, name, {columns} FROM videos WHERE wanted AND (place, name) > (?, ?) "
            f"ORDER BY place, name LIMIT {_BLOCK}",
            last,
        ).fetchall():
            for row in block:
                yield row[1:]
            last = block[-1][:2]

    def _commit(self) -> None:
        self._database.execute("COMMIT")
        self._database.execute("BEGIN")
        self._committed = time.monotonic()

    def close(self) -> None:
        """Keeps everything, and lets others at it."""
        self._database.execute("COMMIT")
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _state(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; (-1, -1) where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
