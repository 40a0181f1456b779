"""``nlnet data diff``: two lists or folders beside each other: what one lacks, what is twice, what is in both.

Two videos are the same by their path, by their name (without folder and container), by their source video (as in
``grouping``: the id of a Kinetics clip, the group of a UCF-101 one), or by their content (SHA-256).
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nlnet.data.annotations.video_files import stem_of
from nlnet.data.prepare.check import Effort
from nlnet.data.prepare.files import write_table
from nlnet.data.prepare.grouping import source_of
from nlnet.data.prepare.ledger import Ledger
from nlnet.data.prepare.progress import Progress
from nlnet.data.prepare.sources import Listed, Sources
from nlnet.data.prepare.workers import Failure, each
from nlnet.errors import ConfigError

BY = ("name", "path", "source", "content")


class Difference(NamedTuple):
    """Numbers of videos, or of names where several videos have one."""

    first: int
    second: int
    only_first: int
    only_second: int
    both: int
    twice_first: int
    twice_second: int
    other_labels: int

    def text(self, first: str, second: str, by: str) -> str:
        return "\n".join(
            [
                f"{first}: {self.first} videos, {self.twice_first} of them again (same {by})",
                f"{second}: {self.second} videos, {self.twice_second} of them again",
                f"in both: {self.both}, with another label: {self.other_labels}",
                f"only in {first}: {self.only_first}; only in {second}: {self.only_second}",
            ]
        )


def diff(first: Sources, second: Sources, out: Path, *, by: str = "name", effort: Effort) -> Difference:
    """Writes OUT/only_first.csv, only_second.csv, both.csv and twice.csv, each with the lines that name the videos.

    By content the files are read, in several processes; a run that was killed goes on.
    """
    if by not in BY:
        raise ConfigError(f"--by={by}: take one of {', '.join(BY)}")
    out.mkdir(parents=True, exist_ok=True)
    store = out / ".diff.sqlite"
    store.unlink(missing_ok=True)
    database = sqlite3.connect(store)
    try:
        for table, sources in (("first", first), ("second", second)):
            database.execute(f"CREATE TABLE {table} (key TEXT, name TEXT, label TEXT, place TEXT)")
            rows = _by_content(sources, out, table, effort) if by == "content" else _by_words(sources, by)
            database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", rows)
            database.execute(f"CREATE INDEX keys_{table} ON {table} (key)")
        return _compare(database, out)
    finally:
        database.close()
        store.unlink(missing_ok=True)


def _by_words(sources: Sources, by: str) -> Iterator[tuple[str, str, str, str]]:
    for listed in sources:
        yield _key(listed, by), listed.name, listed.label, listed.where


def _key(listed: Listed, by: str) -> str:
    if by == "path":
        return os.path.normpath(listed.name)
    stem = stem_of(os.path.basename(listed.name))
    return source_of(stem)[0] if by == "source" else stem


def _by_content(sources: Sources, out: Path, which: str, effort: Effort) -> Iterator[tuple[str, str, str, str]]:
    """The digests of all files; a file that cannot be read is like no other."""
    with Ledger(out, verb=f"digests-{which}", settings={}) as ledger:
        total = ledger.fill(sources)
        waiting = sum(1 for _ in ledger.pending(sources.folder))
        bar = Progress(f"digests of the {which}", total=total, done=total - waiting)
        pending = ledger.pending(sources.folder)
        for (name, path), found in each(
            digest_of, pending, processes=effort.processes, time_limit_s=effort.time_limit_s
        ):
            ledger.record(name, path, {"unreadable": found.reason} if isinstance(found, Failure) else found)
            bar.add()
        bar.end()
        for row in ledger.rows():
            yield row.facts.get("digest") or f"unreadable {which} {row.name}", row.name, row.label, sources.paths[0]


def digest_of(item: tuple[str, str]) -> dict[str, Any]:
    """(name, path) -> {"digest": SHA-256 of the file}, or {"unreadable": why}."""
    try:
        with open(item[1], "rb") as file:
            return {"digest": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        return {"unreadable": str(error.strerror)}


def _compare(database: sqlite3.Connection, out: Path) -> Difference:
    def count(query: str) -> int:
        number: int = database.execute(query).fetchone()[0]
        return number

    only = {}
    for one, other in (("first", "second"), ("second", "first")):
        rows = database.execute(
            f"SELECT name, label, place FROM {one} WHERE key NOT IN (SELECT key FROM {other}) ORDER BY name"
        )
        only[one] = write_table(out / f"only_{one}.csv", ("path", "label", "where"), rows)
    both = write_table(
        out / "both.csv",
        ("first", "second", "label first", "label second", "where first", "where second"),
        database.execute(
            "SELECT a.name, b.name, a.label, b.label, a.place, b.place FROM first a JOIN second b USING (key) "
            "ORDER BY a.name, b.name"
        ),
    )
    twice = "SELECT key FROM {0} GROUP BY key HAVING count(*) > 1"
    write_table(
        out / "twice.csv",
        ("list", "path", "label", "where"),
        database.execute(
            " UNION ALL ".join(
                f"SELECT '{one}', name, label, place FROM {one} WHERE key IN ({twice.format(one)})"
                for one in ("first", "second")
            )
            + " ORDER BY 1, 2, 4"
        ),
    )
    repeated = {one: count(f"SELECT count(*) - count(DISTINCT key) FROM {one}") for one in ("first", "second")}
    return Difference(
        count("SELECT count(*) FROM first"),
        count("SELECT count(*) FROM second"),
        only["first"],
        only["second"],
        both,
        repeated["first"],
        repeated["second"],
        count("SELECT count(*) FROM first a JOIN second b USING (key) WHERE a.label != b.label"),
    )
