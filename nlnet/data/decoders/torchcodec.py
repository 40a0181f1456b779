"""Videos by torchcodec, an optional extra (``pip install nlnet[torchcodec]``; needs FFmpeg's shared libraries).

Its frames are those of a full decode in the containers below; in AVI and MPEG files its seek lands on others. What is
not declared here is refused by name. torchcodec tells no times of frames: the table is the one of ``pyav_index``, and a
file in which the two do not count the same frames is refused too.
"""

import os
from importlib import import_module
from typing import Any

import numpy as np

from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.data.decoders.containers import container
from nlnet.data.decoders.pyav import PyAVReader
from nlnet.data.decoders.pyav_index import IndexCache
from nlnet.data.decoders.time_limit import check_time
from nlnet.errors import ConfigError, VideoError

EXACT = ("MP4/MOV", "Matroska/WebM", "GIF")
_AT_ONCE = 64  # frames between two looks at the clock
# What it raises for files that it cannot decode: C++ errors arrive as RuntimeError.
_ERRORS = (RuntimeError, ValueError, IndexError, OSError)


class TorchCodecReader(VideoReader):
    """One video opened by torchcodec, with its exact seek mode and one decoding thread."""

    def __init__(self, video_decoder: Any, path: str, indices: IndexCache) -> None:
        self.path = path
        kind = container(path)
        if kind not in EXACT:
            raise VideoError(
                path, f"torchcodec is exact in {', '.join(EXACT)} files, and this is {kind}; use data/decoder=pyav"
            )
        with PyAVReader(path, indices) as reader:
            info = reader.info
        try:
            whole_path = os.path.abspath(path)  # what is in front of a colon would be taken for a protocol
            self._decoder: Any = video_decoder(
                whole_path, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC"
            )
            num_frames = len(self._decoder)
            height, width = self._decoder.get_frame_at(0).data.shape[:2]
        except _ERRORS as error:
            raise VideoError(path, f"torchcodec: {_first_line(error)}") from error
        if num_frames != info.num_frames:
            raise VideoError(
                path, f"torchcodec counts {num_frames} frames, the packets {info.num_frames}; use data/decoder=pyav"
            )
        self.info = VideoInfo(num_frames, int(height), int(width), info.frames_per_second, info.times)

    def _decode(self, indices: list[int]) -> Frames:
        try:
            parts = []
            for start in range(0, len(indices), _AT_ONCE):
                check_time(self.path)
                parts.append(self._decoder.get_frames_at(indices[start : start + _AT_ONCE]).data.numpy())
        except _ERRORS as error:
            raise VideoError(self.path, f"torchcodec: {_first_line(error)}") from error
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        self._decoder = None


class TorchCodecDecoder(Decoder):
    """Opens videos by torchcodec.

    Args:
        index_bytes, index_folder: as of ``PyAVDecoder``.
    """

    def __init__(self, *, index_bytes: int = 1 << 26, index_folder: str | None = None) -> None:
        _video_decoder()
        self._indices = IndexCache(max_bytes=index_bytes, folder=index_folder)

    def _open(self, path: str) -> VideoReader:
        return TorchCodecReader(_video_decoder(), path, self._indices)


def _video_decoder() -> Any:
    """Its class, imported only when it is wanted."""
    try:
        return import_module("torchcodec.decoders").VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:  # also where FFmpeg's libraries are missing
        raise ConfigError(
            f"data/decoder=torchcodec cannot be used ({_first_line(error)}): pip install nlnet[torchcodec], with "
            "FFmpeg 4 to 8 installed on the system, or use data/decoder=pyav"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
