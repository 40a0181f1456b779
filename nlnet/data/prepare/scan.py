"""``nlnet data scan``: a folder of videos -> lists to train with. Clips of one source video stay on one side.

The split is stratified: of each class about the asked share of clips is held out, in whole sources. Which sources
depends on the seed and their names.
"""

import hashlib
import os
import shlex
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nlnet.data.annotations.video_files import stem_of
from nlnet.data.prepare.files import write_table, write_text
from nlnet.data.prepare.grouping import PARTS, by_pattern, part_of, source_of
from nlnet.data.prepare.sources import Listed, Sources
from nlnet.errors import ConfigError, DataError

_LISTS = {"train": "train.csv", "val": "val.csv", "classes": "classes.txt"}
_GIVEN = "the folders train and val"
_EVERY_VIDEO = "no convention of names: every video is a source of its own"


@dataclass(frozen=True)
class Split:
    """How to divide a folder.

    Args:
        val: share of the clips of each class that is held out for validation.
        test: and for a test.
        seed: of the choice.
        pattern: see ``grouping.by_pattern``; None knows the conventions of published data sets and trailing parts.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 0
    pattern: str | None = None

    def __post_init__(self) -> None:
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise ConfigError(f"--val={self.val} and --test={self.test} must be shares that leave something to train")


def scan(folder: str, out: Path, *, split: Split, without: frozenset[str] = frozenset()) -> str:
    """Writes OUT/train.csv, val.csv and test.csv (path,label; paths from the folder), classes.txt and skipped.csv.

    Where the folder has ``train`` and ``val`` folders of classes, they are the split. Returns a summary.

    Args:
        without: names to leave out, such as those of a quarantine.
    """
    out.mkdir(parents=True, exist_ok=True)
    skipped: list[tuple[str, str]] = []
    sources = Sources([folder], skip=lambda name, reason: skipped.append((name, reason)))
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: not a folder; nlnet data scan makes lists of a folder of videos")
    store = out / ".scan.sqlite"
    store.unlink(missing_ok=True)
    database = sqlite3.connect(store)
    try:
        database.execute("CREATE TABLE videos (name TEXT, class TEXT, source TEXT, part TEXT, split TEXT)")
        divide = None if split.pattern is None else by_pattern(split.pattern)
        rules = _gather(database, sources, divide, without, skipped)
        rule = _settle_sources(database, rules) if divide is None else f"--pattern {split.pattern}"
        classes = [name for (name,) in database.execute("SELECT DISTINCT class FROM videos ORDER BY class")]
        if not classes:
            raise DataError(
                f"{folder}: no videos in folders of classes (FOLDER/CLASS/VIDEO); --pattern can name classes"
            )
        if rule != _GIVEN:
            for part, share in (("test", split.test), ("val", split.val)):
                _hold_out(database, part, share, split.seed)
        summary = _write(database, out, classes)
        write_table(out / "skipped.csv", ("path", "reason"), sorted(skipped))
    finally:
        database.close()
        store.unlink(missing_ok=True)
    left_out = f"\n{len(skipped)} files are left out: {out}/skipped.csv" if skipped else ""
    return f"{summary}\nsources: {rule}{left_out}\n\n{_command(folder, out)}"


def _gather(
    database: sqlite3.Connection,
    sources: Sources,
    divide: Callable[[str], tuple[str, str | None]] | None,
    without: frozenset[str],
    skipped: list[tuple[str, str]],
) -> Counter[str]:
    """Fills the table with the videos of the folder; counts the rules that their names follow."""
    rules: Counter[str] = Counter()
    top = {entry.name for entry in os.scandir(sources.folder) if entry.is_dir()}
    given = {"train", "val"} <= top and divide is None

    def rows() -> Iterator[tuple[str, str, str, str, str]]:
        for listed in sources:
            if listed.name in without:
                skipped.append((listed.name, "in the list of --without"))
                continue
            found = _row(listed, divide, given)
            if found is None:
                skipped.append((listed.name, "in no folder of a class"))
                continue
            rules[found[-1]] += 1
            yield found[:-1]

    database.executemany("INSERT INTO videos (name, class, source, part, split) VALUES (?, ?, ?, ?, ?)", rows())
    database.execute("CREATE INDEX classes ON videos (class, name)")
    if given:
        rules.clear()
        rules[_GIVEN] = 1
    return rules


def _row(
    listed: Listed, divide: Callable[[str], tuple[str, str | None]] | None, given: bool
) -> tuple[str, str, str, str, str, str] | None:
    """Name, class, source, source by trailing parts, split, rule; None where there is no class."""
    parts = listed.name.split("/")
    split = "train"
    if given:
        split, *parts = parts
        if split not in ("train", "val", "test"):
            return None
    stem = stem_of(parts[-1])
    label: str | None = parts[0] if len(parts) > 1 else None
    if divide is not None:
        source, named = divide("/".join([*parts[:-1], stem]))
        label, rule, part = named or label, "", source
    else:
        source, rule = source_of(stem)
        part = source if rule else part_of(stem)
    return None if label is None else (listed.name, label, source, part, split, rule)


def _settle_sources(database: sqlite3.Connection, rules: Counter[str]) -> str:
    """Chooses between trailing parts and whole names; the rule in words.

    Where trailing numbers would make one source of more than half of a class, they only count its videos.
    """
    known = [rule for rule in rules if rule]
    if known == [_GIVEN]:
        return _GIVEN
    counted = database.execute(
        "SELECT 1 FROM (SELECT class, part, count(*) AS n FROM videos WHERE part != source GROUP BY class, part) JOIN "
        "(SELECT class, count(*) AS total FROM videos GROUP BY class) USING (class) "
        "WHERE total > 2 AND 2 * n > total LIMIT 1"
    ).fetchone()
    if counted is None and database.execute("SELECT 1 FROM videos WHERE part != source LIMIT 1").fetchone():
        database.execute("UPDATE videos SET source = part")
        known.append(PARTS.name)
    elif rules[""]:
        known.append(_EVERY_VIDEO)
    return "; ".join(known)


def _hold_out(database: sqlite3.Connection, part: str, share: float, seed: int) -> None:
    """Moves whole sources of the training videos to ``part``, until each class has its share there.

    A class of two sources or more keeps one for training and gives one. A source of several classes counts for each.
    """
    if not share:
        return
    totals = dict(database.execute("SELECT class, count(*) FROM videos GROUP BY class"))
    target = {name: max(1, round(share * total)) for name, total in totals.items()}
    left = dict(
        database.execute("SELECT class, count(DISTINCT source) FROM videos WHERE split = 'train' GROUP BY class")
    )
    taken: Counter[str] = Counter()
    database.create_function(
        "draw", 1, lambda source: hashlib.sha256(f"{seed}/{part}/{source}".encode()).hexdigest(), deterministic=True
    )
    database.execute("DROP TABLE IF EXISTS sources")
    database.execute(
        "CREATE TABLE sources AS SELECT source, draw(source) AS place FROM videos WHERE split = 'train' GROUP BY source"
    )
    database.execute("CREATE INDEX IF NOT EXISTS by_source ON videos (source)")

    def offer(source: str, *, always: bool = False) -> None:
        """Takes a source if that brings its classes nearer to their shares and leaves each another one."""
        counts = dict(database.execute("SELECT class, count(*) FROM videos WHERE source = ? GROUP BY class", (source,)))
        before = sum(abs(target[name] - taken[name]) for name in counts)
        after = sum(abs(target[name] - taken[name] - count) for name, count in counts.items())
        if min(left[name] for name in counts) > 1 and (always or after < before):
            database.execute("UPDATE videos SET split = ? WHERE source = ?", (part, source))
            taken.update(counts)
            for name in counts:
                left[name] -= 1

    for (source,) in database.execute("SELECT source FROM sources ORDER BY place"):
        offer(source)
    for name in sorted(totals):  # classes of which every source is larger than twice the share
        if not taken[name] and left.get(name, 0) > 1:
            (source,) = database.execute(
                "SELECT source FROM videos WHERE class = ? AND split = 'train' GROUP BY source "
                "ORDER BY count(*), draw(source) LIMIT 1",
                (name,),
            ).fetchone()
            offer(source, always=True)


def _write(database: sqlite3.Connection, out: Path, classes: list[str]) -> str:
    """The lists and the classes -> what is in them."""
    numbers = {name: number for number, name in enumerate(classes)}
    lines = []
    for part in ("train", "val", "test"):
        rows = database.execute("SELECT name, class FROM videos WHERE split = ? ORDER BY class, name", (part,))
        count = write_table(out / f"{part}.csv", ("path", "label"), ((name, numbers[label]) for name, label in rows))
        if not count and part == "test":
            (out / "test.csv").unlink()
        else:
            lines.append(f"{out}/{part}.csv: {count} videos")
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in classes))
    sizes = [n for (n,) in database.execute("SELECT count(*) AS n FROM videos GROUP BY class ORDER BY n")]
    lines.append(f"{out}/classes.txt: {len(classes)} classes of {sizes[0]} to {sizes[-1]} videos")
    lonely = database.execute(
        "SELECT count(*) FROM (SELECT class FROM videos GROUP BY class HAVING sum(split = 'val') = 0)"
    ).fetchone()[0]
    if lonely:
        lines.append(f"{lonely} classes have no validation video: their clips come from a single source")
    return "\n".join(lines)


def _command(folder: str, out: Path) -> str:
    """How to train with the lists."""
    where = [f"data.annotations.{key}={shlex.quote(str((out / file).resolve()))}" for key, file in _LISTS.items()]
    return f"nlnet train data=lists data.root={shlex.quote(folder)} {' '.join(where)}"
