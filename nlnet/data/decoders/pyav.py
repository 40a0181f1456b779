"""Videos by PyAV, the default: current FFmpeg libraries inside the wheel, and frames even from damaged files.

A video is demuxed once when it is opened, without decoding, which gives the presentation time of each frame. Where
the container can be trusted with times, a clip then needs only the frames from the key frame before it; everything
else is decoded from the beginning.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.errors import VideoError

# Containers whose packets carry the time at which they are shown, and which seek by it. AVI, for example, has decoding
# times only: with B-frames a seek in it lands on wrong frames.
_TIMED_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
# One packet, one frame. VP8, for example, also stores packets that are never shown.
_TIMED_CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d", "libaom-av1", "mpeg4"}

_VERSION = int(av.__version__.split(".")[0])
# Before 19, a tag that is not UTF-8 stops the file from being opened.
_OPEN_OPTIONS: dict[str, Any] = {} if _VERSION >= 19 else {"metadata_errors": "replace"}
# From 17 on, swscale starts as many threads as there are cores; the workers of the loader use these already.
_CONVERT_OPTIONS: dict[str, Any] = {"threads": 1} if _VERSION >= 17 else {}


class PyAVReader(VideoReader):
    """One video opened by PyAV."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._reformatter: Any = VideoReformatter()
        self._container: Any = None
        try:
            self._start()
            first, times, keys, num_frames = self._scan()
            self._orientation = _orientation(first)
            self._stored_size = (first.height, first.width)
            height, width = self._stored_size[::-1] if self._orientation[0] else self._stored_size
            rate = self._stream.average_rate
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.close()
            raise VideoError(path, _reason(error)) from error
        except VideoError:
            self.close()
            raise
        self._times = times
        self._keys = keys
        self.info = VideoInfo(num_frames, height, width, rate.numerator / rate.denominator if rate else 0.0)

    def _start(self) -> None:
        """(Re)open the file at its beginning."""
        if self._container is not None:
            self._container.close()
        # A "video" may be a playlist in disguise: it must not make us read from the network.
        self._container = av.open(self.path, options={"protocol_whitelist": "file"}, **_OPEN_OPTIONS)
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            raise VideoError(self.path, "no video stream")
        # Decoding threads can deadlock when a clip ends early, and the workers of the loader use the cores already.
        self._stream.codec_context.thread_count = 1

    def _scan(self) -> tuple[Any, list[int], list[int], int]:
        """Read all packets, decode up to the first frame -> that frame, times, key frames, number of frames.

        ``times`` are those of the frames shown, the key frames' of all. Both are sorted, and empty where the container
        cannot be trusted with them.
        """
        first = None
        times, keys = [], []
        for packet in self._packets():
            if first is None:
                first = next(iter(self._frames_of(packet)), None)
            if packet is None or not packet.size:
                continue
            # Edit lists mark the packets of frames that are decoded but not shown.
            if not packet.is_discard:
                times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        if first is None:
            raise VideoError(self.path, "no frame can be decoded")
        num_frames = max(1, len(times))
        containers = set(self._container.format.name.split(","))
        timed = containers & _TIMED_CONTAINERS and self._stream.codec_context.name in _TIMED_CODECS
        if not timed or None in times or None in keys or len(set(times)) != len(times):
            return first, [], [], num_frames
        times.sort()
        keys.sort()
        # A stream cut before its first key frame, for example, has packets that never become frames.
        if not keys or not times or keys[0] > times[0] or first.pts != times[0]:
            return first, [], [], num_frames
        return first, times, keys, num_frames

    def _decode(self, indices: list[int]) -> Frames:
        frames = None
        try:
            if self._times:
                frames = self._decode_by_time(indices)
            if frames is None:
                self._times = []
                frames = self._decode_in_order(indices)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self.path, _reason(error)) from error
        return _oriented(frames, self._orientation)

    def _decode_by_time(self, indices: list[int]) -> Frames | None:
        """Frames decoded from the key frame before the first one on -> [T, H, W, 3]; None if the times do not hold."""
        start = self._keys[bisect_right(self._keys, self._times[indices[0]]) - 1]
        position = bisect_left(self._times, start)
        frames = np.empty((len(indices), *self._stored_size, 3), np.uint8)
        filled = 0
        try:
            self._container.seek(start, stream=self._stream)
        except av.error.FFmpegError:
            return None
        for packet in self._packets():
            for frame in self._frames_of(packet):
                if frame.pts is not None and frame.pts < start:
                    continue
                # Also where a packet could not be decoded: then the frames of the file are not those of its table.
                if position == len(self._times) or frame.pts != self._times[position]:
                    return None
                if position == indices[filled]:
                    frames[filled] = self._to_rgb(frame)
                    filled += 1
                    if filled == len(indices):
                        return frames
                position += 1
        return None

    def _decode_in_order(self, indices: list[int]) -> Frames:
        """Frames decoded from the beginning -> [T, H, W, 3].

        What cannot be decoded does not count as a frame; indices past the last frame give the last frame.
        """
        self._start()
        frames = np.empty((len(indices), *self._stored_size, 3), np.uint8)
        filled = 0
        frame = None
        position = 0
        for packet in self._packets():
            for frame in self._frames_of(packet):
                if position == indices[filled]:
                    frames[filled] = self._to_rgb(frame)
                    filled += 1
                    if filled == len(indices):
                        return frames
                position += 1
        if frame is None:
            raise VideoError(self.path, "no frame can be decoded")
        frames[filled:] = self._to_rgb(frame)
        return frames

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream from here on, then one that flushes the decoder (None if reading broke off)."""
        packets = self._container.demux(self._stream)
        while True:
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

    def _to_rgb(self, frame: Any) -> Frames:
        """One frame as stored -> [H, W, 3]. The size is that of the first frame, should the stream change it."""
        height, width = self._stored_size
        converted = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", **_CONVERT_OPTIONS)
        pixels: Frames = converted.to_ndarray()
        return pixels

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


class PyAVDecoder(Decoder):
    """Opens videos by PyAV."""

    def _open(self, path: str) -> VideoReader:
        return PyAVReader(path)


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
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


def _oriented(frames: Frames, orientation: tuple[bool, bool, bool]) -> Frames:
    """Frames as stored -> as shown."""
    transpose, upside_down, mirror = orientation
    if transpose:
        frames = frames.transpose(0, 2, 1, 3)
    if upside_down:
        frames = frames[:, ::-1]
    if mirror:
        frames = frames[:, :, ::-1]
    return frames


def _reason(error: Exception) -> str:
    """What FFmpeg says, without the path that VideoError adds."""
    return str(getattr(error, "strerror", None) or error)
