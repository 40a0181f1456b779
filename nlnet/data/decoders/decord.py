"""Videos by decord, the decoder of many published results. Its development ended in 2021; PyAV is the default.

It reads no AV1 and none of the damaged files that PyAV still gives frames from: those are a VideoError here. Its seek
lands on wrong frames in AVI, WMV and MPEG files, and wherever frames shown before a key frame are stored after it
(open groups of pictures, the default of x265). Which those are it does not say, so every clip is decoded from the
beginning of the file: right, but slow in long videos.
"""

import os
from importlib import import_module
from types import ModuleType

import numpy as np

from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.data.decoders.containers import container
from nlnet.data.decoders.time_limit import check_time
from nlnet.errors import ConfigError, VideoError

_TIMED = ("MP4/MOV", "Matroska/WebM")  # where it tells when frames are shown; elsewhere the order of decoding


class DecordReader(VideoReader):
    """One video opened by decord."""

    def __init__(self, decord: ModuleType, path: str) -> None:
        self.path = path
        # decord raises RuntimeError where it cannot open, its own DECORDError where it cannot decode.
        self._errors = (decord.DECORDError, RuntimeError, OSError, ValueError, IndexError, StopIteration)
        # Ours is the plain array, whatever bridge another part of the program has set.
        decord.bridge.set_bridge("native")
        # What goes wrong is raised with the file's name; the library would also write to the terminal.
        decord.logging.set_level(decord.logging.QUIET)
        kind = container(path)
        if kind == "MPEG-TS":
            raise VideoError(path, "decord loses the first frames of MPEG transport streams; use data/decoder=pyav")
        try:
            self._reader = decord.VideoReader(os.path.abspath(path), num_threads=1)
            num_frames = len(self._reader)
            height, width, _ = self._reader.next().shape
            rate = float(self._reader.get_avg_fps())
            times = None
            if kind in _TIMED:
                times = self._reader.get_frame_timestamp(range(num_frames))[:, 0].astype(np.float64)
                times -= times[0]
        except self._errors as error:
            raise VideoError(path, f"decord cannot read it ({_last_line(error)}); use data/decoder=pyav") from error
        self.info = VideoInfo(num_frames, int(height), int(width), rate, times)

    def _decode(self, indices: list[int]) -> Frames:
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        filled = 0
        try:
            self._reader.seek(0)
            for position in range(indices[-1] + 1):
                check_time(self.path)
                frame = self._reader.next()
                if position == indices[filled]:
                    # In some narrow videos it takes the padding at the end of a row for more channels.
                    rows = frame.asnumpy().reshape(self.info.height, -1)
                    frames[filled] = rows[:, : self.info.width * 3].reshape(frames.shape[1:])
                    filled += 1
        except self._errors as error:
            raise VideoError(self.path, f"decord: {_last_line(error)}") from error
        return frames

    def close(self) -> None:
        self._reader = None


class DecordDecoder(Decoder):
    """Opens videos by decord."""

    def __init__(self) -> None:
        _decord()

    def _open(self, path: str) -> VideoReader:
        return DecordReader(_decord(), path)


def _decord() -> ModuleType:
    """The library, imported only when a decoder is wanted: it has no wheel for some platforms."""
    try:
        return import_module("decord")
    except ImportError as error:
        raise ConfigError(
            f"data/decoder=decord needs the package decord ({error}): pip install decord, or use data/decoder=pyav"
        ) from error


def _last_line(error: Exception) -> str:
    """The message of a C++ error without its stack trace."""
    lines = [line.strip() for line in str(error).split("Stack trace")[0].splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
