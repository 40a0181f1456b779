"""Whole decoded videos kept in memory, for data sets small enough: each file is decoded once per process."""

from collections import OrderedDict

from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.errors import ConfigError


class CachedReader(VideoReader):
    """A video whose frames are in memory already: frames [N, H, W, 3]."""

    def __init__(self, path: str, info: VideoInfo, frames: Frames) -> None:
        self.path = path
        self.info = info
        self._all = frames

    def _decode(self, indices: list[int]) -> Frames:
        return self._all[indices]

    def close(self) -> None:
        """Nothing to give up: the frames belong to the decoder."""


class CachedDecoder(Decoder):
    """Another decoder with a memory: the most recently used videos, up to ``max_bytes`` of frames.

    Each worker process has a memory of its own. A video larger than ``max_bytes`` is read as if there were none. A
    file that changes while the program runs is not read again.
    """

    def __init__(self, decoder: Decoder, *, max_bytes: int = 1 << 30) -> None:
        if max_bytes < 1:
            raise ConfigError(f"data.decoder.max_bytes must be positive, not {max_bytes}")
        self.decoder = decoder
        self.max_bytes = max_bytes
        self._videos: OrderedDict[str, tuple[VideoInfo, Frames]] = OrderedDict()
        self._bytes = 0

    def open(self, path: str) -> VideoReader:
        """Open the video at ``path``, decoding all of it the first time."""
        if path in self._videos:
            self._videos.move_to_end(path)
            return CachedReader(path, *self._videos[path])
        return self._open(path)

    def _open(self, path: str) -> VideoReader:
        reader = self.decoder.open(path)
        info = reader.info
        if info.num_frames * info.height * info.width * 3 > self.max_bytes:
            return reader
        with reader:
            frames = reader.frames(range(info.num_frames))
        frames.flags.writeable = False
        self._videos[path] = (info, frames)
        self._bytes += frames.nbytes
        while self._bytes > self.max_bytes:
            _, (_, dropped) = self._videos.popitem(last=False)
            self._bytes -= dropped.nbytes
        return CachedReader(path, info, frames)

    def __getstate__(self) -> dict[str, object]:
        """Without the frames: a worker process starts with an empty memory."""
        return {**self.__dict__, "_videos": OrderedDict(), "_bytes": 0}
