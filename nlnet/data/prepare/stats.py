"""``nlnet data stats``: what a data set is made of: classes, durations, frame rates, sizes, codecs."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from nlnet.data.prepare import facts
from nlnet.data.prepare.check import Effort, gather
from nlnet.data.prepare.facts import BAD
from nlnet.data.prepare.files import write_table, write_text
from nlnet.data.prepare.ledger import Ledger
from nlnet.data.prepare.sources import Sources


@dataclass
class Statistics:
    """Counts of videos; as many keys as there are different values, whatever the number of videos."""

    classes: Counter[str] = field(default_factory=Counter)
    seconds_of_class: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    seconds: Counter[int] = field(default_factory=Counter)  # whole ones, rounded down
    frame_rates: Counter[float] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # width, height
    codecs: Counter[str] = field(default_factory=Counter)
    containers: Counter[str] = field(default_factory=Counter)
    videos: int = 0
    bad: int = 0
    without_duration: int = 0
    total_seconds: float = 0.0
    frames: int = 0

    @property
    def short_sides(self) -> Counter[int]:
        """Videos by the shorter side in pixels."""
        sides: Counter[int] = Counter()
        for size, count in self.sizes.items():
            sides[min(size)] += count
        return sides

    def text(self) -> str:
        """For people."""
        duration = timedelta(seconds=round(self.total_seconds))
        counts = sorted(self.classes.values())
        lines = [
            f"{self.videos} videos, {duration} (h:mm:ss), {self.frames} frames; {self.bad} cannot be opened",
            f"{len(counts)} classes of {counts[0]} to {counts[-1]} videos, {counts[len(counts) // 2]} in the middle",
        ]
        if self.videos == self.bad:
            return "\n".join(lines)
        if self.seconds:
            lines.append(f"seconds: {_spread(self.seconds)}; {self.without_duration} do not say")
        lines += [
            f"frames per second: {_most(self.frame_rates)}",
            f"shorter side in pixels: {_spread(self.short_sides)}",
            f"width x height: {_most(Counter({f'{w}x{h}': n for (w, h), n in self.sizes.items()}))}",
            f"codec: {_most(self.codecs)}",
            f"container: {_most(self.containers)}",
        ]
        return "\n".join(lines)


def stats(sources: Sources, out: Path, *, effort: Effort) -> Statistics:
    """Opens every video, without decoding more than one frame of it -> Statistics.

    Writes OUT/videos.csv (what each file holds), classes.csv, histograms.csv and stats.txt.
    """
    with Ledger(out, verb="stats", settings={}) as ledger:
        gather(ledger, sources, effort=effort, what="stats", probes=0)
        statistics = Statistics()

        def rows() -> Iterator[list[object]]:
            for row in ledger.rows():
                _count(statistics, row.label, row.facts)
                columns = [row.facts.get(column, "") for column in facts.COLUMNS]
                yield [row.name, row.label, row.facts["status"], *columns]

        write_table(out / "videos.csv", ("path", "label", "status", *facts.COLUMNS), rows())
    write_table(
        out / "classes.csv",
        ("label", "videos", "seconds"),
        ((name, n, round(statistics.seconds_of_class[name], 1)) for name, n in sorted(statistics.classes.items())),
    )
    write_table(out / "histograms.csv", ("of", "value", "videos"), _histograms(statistics))
    write_text(out / "stats.txt", statistics.text() + "\n")
    return statistics


def _count(statistics: Statistics, label: str, found: dict[str, object]) -> None:
    statistics.videos += 1
    statistics.classes[label or "no label"] += 1
    if found["status"] == BAD:
        statistics.bad += 1
        return
    seconds = float(str(found["seconds"]))
    if seconds:
        statistics.seconds[int(seconds)] += 1
    else:
        statistics.without_duration += 1
    statistics.total_seconds += seconds
    statistics.seconds_of_class[label or "no label"] += seconds
    statistics.frames += int(str(found["frames"]))
    statistics.frame_rates[round(float(str(found["frames_per_second"])), 2)] += 1
    statistics.sizes[int(str(found["width"])), int(str(found["height"]))] += 1
    statistics.codecs[str(found["codec"])] += 1
    statistics.containers[str(found["container"])] += 1


def _histograms(statistics: Statistics) -> Iterator[tuple[str, object, int]]:
    for of, counter in (
        ("seconds", statistics.seconds),
        ("frames per second", statistics.frame_rates),
        ("shorter side", statistics.short_sides),
        ("codec", statistics.codecs),
        ("container", statistics.containers),
    ):
        yield from ((of, value, count) for value, count in sorted(counter.items()))
    yield from (("size", f"{width}x{height}", n) for (width, height), n in sorted(statistics.sizes.items()))


def _spread(counter: Counter[int]) -> str:
    """The 5th, 50th and 95th percentiles and the ends: ``0 to 12, half under 10, nine in ten from 5 to 10``."""
    values = sorted(counter)
    wanted = [share * counter.total() for share in (0.05, 0.5, 0.95)]
    found: list[int] = []
    below = 0
    for value in values:
        below += counter[value]
        while len(found) < 3 and below >= wanted[len(found)]:
            found.append(value)
    return f"{values[0]} to {values[-1]}, median {found[1]}, nine in ten from {found[0]} to {found[2]}"


def _most(counter: Counter[object] | Counter[float] | Counter[str], *, limit: int = 5) -> str:
    """``25.0 (80%), 30.0 (20%)``."""
    shown = [f"{value} ({count / counter.total():.0%})" for value, count in counter.most_common(limit)]
    return ", ".join(shown) + (f" and {len(counter) - limit} more" if len(counter) > limit else "")
