"""Videos by PyAV, the default: current FFmpeg libraries inside the wheel, and frames even from damaged files.

A video is demuxed once without decoding, which gives the presentation time of each frame; the table is kept. Where the
container can be trusted with times, a clip then needs only the frames from the key frame before it, and of these not
the ones that no other frame refers to, unless they are its own; everything else is decoded from the beginning.
"""

import os
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np

from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.data.decoders.pyav_index import IndexCache, VideoIndex
from nlnet.data.decoders.pyav_pixels import FrameCutter, Orientation, ViewCutter, oriented
from nlnet.data.decoders.time_limit import check_time
from nlnet.errors import VideoError

if TYPE_CHECKING:
    from nlnet.data.transforms import View

# Containers whose packets carry the time at which they are shown, and which seek by it. AVI, for example, has decoding
# times only: with B-frames a seek in it lands on wrong frames.
_TIMED_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
# One packet, one frame. VP8, for example, also stores packets that are never shown.
_TIMED_CODECS = {
    *("h264", "hevc", "vp9", "av1", "libdav1d", "libaom-av1"),
    *("mpeg4", "mpeg2video", "mjpeg", "prores", "ffv1"),
}

_VERSION = int(av.__version__.split(".")[0])
# Before 19, a tag that is not UTF-8 stops the file from being opened.
_OPEN_OPTIONS: dict[str, Any] = {} if _VERSION >= 19 else {"metadata_errors": "replace"}


class PyAVReader(VideoReader):
    """One video opened by PyAV."""

    def __init__(self, path: str, indices: IndexCache | None = None) -> None:
        self.path = path
        self._container: Any = None
        try:
            self._start()
            index = indices.get(path) if indices else None
            if index is None:
                index = self._scan()
                if indices:
                    indices.put(path, index)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.close()
            raise VideoError(path, _reason(error)) from error
        except VideoError:
            self.close()
            raise
        self.index = index
        self._seekable = len(index.keys) > 0
        self._stored_size = (index.height, index.width)
        height, width = self._stored_size[::-1] if index.orientation[0] else self._stored_size
        times = (index.times - index.times[0]) * index.seconds_per_unit if len(index.times) else None
        self.info = VideoInfo(index.num_frames, height, width, index.frames_per_second, times)

    def _start(self) -> None:
        """(Re)open the file at its beginning."""
        if self._container is not None:
            self._container.close()
        # A "video" may be a playlist in disguise: it must not make us read from the network. The path is absolute as
        # anything in front of a colon would be taken for a protocol.
        self._container = av.open(os.path.abspath(self.path), options={"protocol_whitelist": "file"}, **_OPEN_OPTIONS)
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            raise VideoError(self.path, "no video stream")
        # Decoding threads can deadlock when a clip ends early, and the workers of the loader use the cores already.
        self._stream.codec_context.thread_count = 1

    def _scan(self) -> VideoIndex:
        """Read all packets, decode up to the first frame."""
        first = None
        times, keys = [], []
        codec = self._stream.codec_context.name
        for packet in self._packets():
            if first is None:
                first = next(iter(self._frames_of(packet)), None)
            if packet is None or not packet.size or (codec == "vp8" and not _vp8_is_shown(packet)):
                continue
            # Edit lists mark the packets of frames that are decoded but not shown.
            if not packet.is_discard:
                times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        if first is None:
            raise VideoError(self.path, "no frame can be decoded")
        num_frames = max(1, len(times))
        if None in times or len(set(times)) != len(times):
            times = []
        if not times or not self._seeks_by_time() or None in keys:
            keys = []
        times.sort()
        keys.sort()
        # A stream cut before its first key frame, for example, has packets that never become frames.
        if keys and (keys[0] > times[0] or first.pts != times[0]):
            keys = []
        rate, unit = self._stream.average_rate, self._stream.time_base
        return VideoIndex(
            num_frames=num_frames,
            height=first.height,
            width=first.width,
            orientation=orientation_of(first),
            frames_per_second=rate.numerator / rate.denominator if rate else 0.0,
            seconds_per_unit=unit.numerator / unit.denominator,
            times=np.array(times, np.int64),
            keys=np.array(keys, np.int64),
        )

    def _seeks_by_time(self) -> bool:
        containers = set(self._container.format.name.split(","))
        return bool(containers & _TIMED_CONTAINERS) and self._stream.codec_context.name in _TIMED_CODECS

    def _decode(self, indices: list[int]) -> Frames:
        frames = np.empty((len(indices), *self._stored_size, 3), np.uint8)
        cut = FrameCutter(self._stored_size, (0, 0, *self._stored_size))
        for position, frame in self._wanted(indices):
            cut(frame, frames[position])
        return oriented(frames, self.index.orientation)

    def read(self, view: "View") -> Frames:
        (clip,) = self.read_all([view])
        return clip

    def read_all(self, views: Sequence["View"], *, max_bytes: int = 1 << 29) -> list[Frames]:
        """As the base class has it, for any number of views at once: whole frames are not kept.

        Every frame is decoded once, and its box converted once for each view.
        """
        cutters = [ViewCutter(self._stored_size, self.index.orientation, view) for view in views]
        indices = self._checked([index for view in views for index in view.indices])
        for position, frame in self._wanted(indices):
            for cutter in cutters:
                cutter.take(indices[position], frame)
        return [cutter.finish() for cutter in cutters]

    def _wanted(self, indices: list[int]) -> Iterator[tuple[int, Any]]:
        """The frames at these sorted indices -> (position in ``indices``, frame as stored).

        All of them, in order; from the first one again where the table of times turns out not to hold.
        """
        try:
            if self._seekable:
                self._seekable = yield from self._by_time(indices)
            if not self._seekable:
                yield from self._in_order(indices)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self.path, _reason(error)) from error

    def _by_time(self, indices: list[int]) -> Generator[tuple[int, Any], None, bool]:
        """Frames decoded from the key frame before the first one on; returns whether the table of times did hold.

        Frames that are not wanted and that no other one refers to are not decoded: h264, for example, marks them.
        """
        times = self.index.times
        wanted = [int(times[index]) for index in indices]
        start = int(self.index.keys[bisect_right(self.index.keys, wanted[0]) - 1])
        try:
            self._container.seek(start, stream=self._stream)
        except av.error.FFmpegError:
            return False
        context = self._stream.codec_context
        drops = _drops_exactly(context)
        missing = set(wanted)
        skipping = False
        filled = 0
        for packet in self._packets():
            if drops and packet is not None and skipping != (packet.pts not in missing):
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            try:
                frames = context.decode(packet)
                if packet is not None:
                    missing.discard(packet.pts)
                if not missing and packet is not None and packet.size:
                    frames += context.decode(None)  # all that is wanted is inside: no need to feed it more
            except av.error.FFmpegError:
                return False  # the frames of the file are not those of its table
            for frame in frames:
                if frame.pts is None or frame.pts < wanted[filled]:
                    continue
                if frame.pts != wanted[filled]:
                    return False
                yield filled, frame
                filled += 1
                if filled == len(indices):
                    return True
            if not missing:
                break
        return False

    def _in_order(self, indices: list[int]) -> Iterator[tuple[int, Any]]:
        """Frames decoded from the beginning.

        What cannot be decoded does not count as a frame; indices past the last frame give the last frame.
        """
        self._start()
        filled = 0
        frame = None
        position = 0
        for packet in self._packets():
            for frame in self._frames_of(packet):
                if position == indices[filled]:
                    yield filled, frame
                    filled += 1
                    if filled == len(indices):
                        return
                position += 1
        if frame is None:
            raise VideoError(self.path, "no frame can be decoded")
        for late in range(filled, len(indices)):
            yield late, frame

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream from here on, then one that flushes the decoder (None if reading broke off)."""
        packets = self._container.demux(self._stream)
        while True:
            check_time(self.path)
            try:
                packet = next(packets, None)
            except IndexError:
                # PyAV stumbles over packets of a stream that it has not seen at the start: go on after that one.
                packets = self._container.demux(self._stream)
                continue
            except av.error.FFmpegError:
                yield None
                return
            if packet is None:
                return
            yield packet

    def _frames_of(self, packet: Any) -> list[Any]:
        """The frames that this packet completes; none where it is damaged."""
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            return []
        return frames

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


class PyAVDecoder(Decoder):
    """Opens videos by PyAV.

    Args:
        index_bytes: memory for the tables of files already seen, in each process.
        index_folder: where these tables are kept for other processes and runs too; None for nowhere.
    """

    def __init__(self, *, index_bytes: int = 1 << 26, index_folder: str | None = None) -> None:
        self._indices = IndexCache(max_bytes=index_bytes, folder=index_folder)

    def _open(self, path: str) -> VideoReader:
        return PyAVReader(path, self._indices)


def _drops_exactly(context: Any) -> bool:
    """Whether the decoder tells frames that no other refers to, so that leaving them out changes no other frame.

    In HEVC a higher temporal layer may still refer to them: only where the file has a single one (numTemporalLayers of
    its configuration record, ISO/IEC 14496-15).
    """
    if context.name == "hevc":
        record = bytes(context.extradata or b"")
        return len(record) > 21 and record[0] == 1 and record[21] >> 3 & 7 == 1
    return context.name in ("h264", "mpeg4")


def _vp8_is_shown(packet: Any) -> bool:
    """The show_frame bit of a VP8 frame (RFC 6386, section 9.1)."""
    return bool(memoryview(packet)[0] >> 4 & 1)


def orientation_of(frame: Any) -> Orientation:
    """How to show a frame, from the display matrix of the file: (transpose, then turn upside down, then mirror).

    The matrix maps (x, y) to (a x + c y, b x + d y). Phones store portrait videos that way.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def _reason(error: Exception) -> str:
    """What FFmpeg says, without the path that VideoError adds."""
    return str(getattr(error, "strerror", None) or error)
