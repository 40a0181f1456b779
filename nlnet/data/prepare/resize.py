"""``nlnet data resize``: smaller copies that decode fast, by the FFmpeg libraries inside PyAV.

The shorter side gets the asked length, the aspect stays, rotation is applied to the pixels, sound is dropped, each
frame keeps its time, and a key frame stands every so many frames, so that a clip needs few others decoded.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import av.filter
from av.video.reformatter import VideoReformatter

from nlnet.data.annotations.video_files import stem_of
from nlnet.data.decoders import unreadable
from nlnet.data.decoders.pyav import orientation_of
from nlnet.data.prepare.check import Effort
from nlnet.data.prepare.facts import displayed_rate
from nlnet.data.prepare.files import write_table, written_whole
from nlnet.data.prepare.ledger import Ledger, Row
from nlnet.data.prepare.progress import Progress
from nlnet.data.prepare.sources import Sources
from nlnet.data.prepare.workers import Failure, each
from nlnet.errors import ConfigError, DataError

_CLOCK = Fraction(1, 90_000)  # holds the times of all common frame rates exactly, or to 11 microseconds

# From PyAV 17 on, swscale starts as many threads as there are cores; the processes here use these already.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class Encoding:
    """What the copies are.

    Args:
        short_side: pixels; smaller videos keep their size.
        key_frame_every: frames.
        quality: x264's constant rate factor: 18 can hardly be told from the source, 23 is its default.
        preset: x264's; slower ones make smaller files.
    """

    short_side: int = 256
    key_frame_every: int = 30
    quality: int = 20
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ConfigError(f"--short-side must be an even number from 16 on, not {self.short_side}")
        if self.key_frame_every < 1:
            raise ConfigError(f"--key-frame-every must be at least 1, not {self.key_frame_every}")
        if self.preset not in _PRESETS:
            raise ConfigError(f"--preset={self.preset}: x264 has {', '.join(_PRESETS)}")
        if not 0 <= self.quality <= 51:
            raise ConfigError(f"--quality must be between 0 and 51, not {self.quality}")


class _Task(NamedTuple):
    name: str
    path: str
    target: str  # "" where another video has that copy
    encoding: Encoding


def resize(sources: Sources, out: Path, *, effort: Effort, encoding: Encoding) -> str:
    """Writes OUT/NAME.mp4 for every video -> a summary. What cannot be read is listed in OUT/failed.csv.

    Copies are whole or not there. Files that were done before, and have not changed since, are not done again.
    """
    if os.path.abspath(out) == sources.folder:
        raise ConfigError(f"--out={out} is the folder of the videos themselves; give another")
    with Ledger(out, verb="resize", settings=vars(encoding)) as ledger:
        # In the order of the copies, so that two videos with one copy are neighbours.
        total = ledger.fill(sources, place=lambda each: copy_of(each.name))
        if not total:
            raise DataError(f"{sources.paths[0]}: no videos")
        waiting = sum(1 for _ in _tasks(ledger, sources, out, encoding))
        bar = Progress("resize", total=total, done=total - waiting)
        tasks = _tasks(ledger, sources, out, encoding)
        for task, found in each(write_copy, tasks, processes=effort.processes, time_limit_s=effort.time_limit_s):
            if isinstance(found, Failure):
                found = {"failed": found.reason}
            ledger.record(task.name, task.path, found)
            bar.add()
        bar.end()
        counts: Counter[str] = Counter()

        def failed() -> Iterator[tuple[str, str, str]]:
            for row in ledger.rows():
                kind = "failed" if "failed" in row.facts else "damaged" if row.facts["lost"] else "whole"
                counts[kind] += 1
                if kind != "whole":
                    yield row.name, kind, row.facts.get("failed") or row.facts["lost"]

        write_table(out / "failed.csv", ("path", "status", "reason"), failed())
    return (
        f"{counts['whole'] + counts['damaged']} of {total} videos are in {out}, {counts['damaged']} of them without "
        f"their lost frames, {counts['failed']} failed ({out}/failed.csv)"
    )


def _tasks(ledger: Ledger, sources: Sources, out: Path, encoding: Encoding) -> Iterator[_Task]:
    """What is still to do: new and changed videos, and those whose copy is gone."""

    def done(row: Row) -> bool:
        return "failed" in row.facts or (out / copy_of(row.name)).is_file()

    before = ""
    for name, path in ledger.pending(sources.folder, done=done):
        target = copy_of(name)
        yield _Task(name, path, "" if target == before else str(out / target), encoding)
        before = target


def copy_of(name: str) -> str:
    """``a/b.webm`` -> ``a/b.mp4``. Absolute names lose their root."""
    folder, file = os.path.split(name.lstrip("/"))
    return os.path.join(folder, f"{stem_of(file)}.mp4")


def write_copy(task: _Task) -> dict[str, Any]:
    """One smaller copy -> {"frames": …, "lost": what is lost of the source or ""}, or {"failed": reason}."""
    reason = unreadable(task.path) if task.target else "another video's copy would have the same name; rename one"
    if reason:
        return {"failed": reason}
    try:
        with written_whole(task.target) as unfinished:
            frames, lost = _transcode(task.path, str(unfinished), task.encoding)
            if not frames:
                raise DataError("no frame can be decoded")
    except DataError as error:
        return {"failed": str(error)}
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return {"failed": str(getattr(error, "strerror", None) or error)}
    return {"frames": frames, "lost": lost}


def _transcode(path: str, target: str, encoding: Encoding) -> tuple[int, str]:
    """Decodes all of a video and writes the copy -> number of frames, and what was lost of the source."""
    lost = frames = 0
    with (
        av.open(path, metadata_errors="replace", options={"protocol_whitelist": "file"}) as source,
        av.open(target, "w", format="mp4", options={"movflags": "+faststart"}) as copy,
    ):
        stream = source.streams.best("video")
        if stream is None:
            raise DataError("no video stream")
        context: Any = stream.codec_context
        context.thread_count = 1
        writer: _Writer | None = None
        packets = source.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                decoded = [] if packet is None else context.decode(packet)
            except IndexError:  # a packet of a stream that was not there at the start
                packets = source.demux(stream)
                continue
            except av.error.FFmpegError:
                lost += 1
                if packet is None:
                    break
                continue
            if packet is None:
                break
            for frame in decoded:
                writer = writer or _Writer(copy, frame, displayed_rate(stream), encoding)
                writer.write(frame)
                frames += 1
        if writer is not None:
            writer.end()
    return frames, f"{lost} packet(s) cannot be decoded" if lost else ""


class _Writer:
    """The copy: scales, turns and encodes frames.

    Args:
        first: the first frame, which decides size and orientation.
        rate: frames per second, where frames do not say when they are shown.
    """

    def __init__(self, copy: Any, first: Any, rate: Fraction, encoding: Encoding) -> None:
        self._copy = copy
        self._scaled = scaled_size(first.width, first.height, encoding.short_side)
        self._reformatter = VideoReformatter()
        transpose, upside_down, mirror = orientation_of(first)
        turns = [("transpose", "cclock_flip")] * transpose + [("vflip", "")] * upside_down + [("hflip", "")] * mirror
        self._graph = _graph(self._scaled, turns) if turns else None
        options = {"crf": str(encoding.quality), "preset": encoding.preset, "threads": "1"}
        self._stream = copy.add_stream("libx264", rate=rate, options=options)
        self._stream.width, self._stream.height = self._scaled[::-1] if transpose else self._scaled
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.gop_size = encoding.key_frame_every
        self._stream.codec_context.time_base = _CLOCK
        for fact in ("color_range", "colorspace", "color_primaries", "color_trc"):
            if hasattr(first, fact):
                setattr(self._stream.codec_context, fact, getattr(first, fact))
        self._step = max(1, round(1 / rate / _CLOCK))
        self._first: int | None = None
        self._last = -self._step

    def write(self, frame: Any) -> None:
        """Adds a frame, at its own time: the first is at 0, and each is later than the one before."""
        width, height = self._scaled
        time = None if frame.pts is None else round(frame.pts * frame.time_base / _CLOCK)
        if self._first is None:
            self._first = time or 0
        time = self._last + self._step if time is None else time - self._first
        self._last = max(time, self._last + 1)
        scaled: Any = self._reformatter.reformat(
            frame, width=width, height=height, format="yuv420p", interpolation="BICUBIC", **_ONE_THREAD
        )
        if self._graph is not None:
            self._graph.push(scaled)
            scaled = self._graph.pull()
        scaled.pts, scaled.time_base = self._last, _CLOCK
        if hasattr(scaled, "duration"):  # since PyAV 15; it was counted in the source's unit
            scaled.duration = self._step
        scaled.pict_type = 0  # the encoder chooses, not the source
        self._copy.mux(self._stream.encode(scaled))

    def end(self) -> None:
        """Writes what the encoder still holds."""
        self._copy.mux(self._stream.encode(None))


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the shorter side at most ``short_side``, even, in the same proportion as near as may be."""
    factor = min(1.0, short_side / min(width, height))
    even = [max(2, 2 * round(length * factor / 2)) for length in (width, height)]
    return even[0], even[1]


def _graph(size: tuple[int, int], filters: list[tuple[str, str]]) -> Any:
    """Filters one behind the other, for frames of that size."""
    graph: Any = av.filter.Graph()
    width, height = size
    nodes = [graph.add_buffer(width=width, height=height, format="yuv420p", time_base=_CLOCK)]
    nodes += [graph.add(name, arguments) if arguments else graph.add(name) for name, arguments in filters]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph
