"""Videos inside tar files: each is read by one look at its place, and handed to another decoder.

The place is in the path, ``SHARD.tar#MEMBER@OFFSET+SIZE``, so that a sample of any number can be read at once: no
process reads past videos that are not its own, and a run that is resumed need not skip any.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from nlnet.data.decoders import Decoder, Frames, VideoReader, unreadable
from nlnet.errors import VideoError

if TYPE_CHECKING:
    from nlnet.data.transforms import View

_MEMBER = re.compile(r"(.+\.tar)#(.+)@(\d+)\+(\d+)", re.DOTALL)
# The decoders read files. Where there is one, a file in memory.
_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) else None


def member_path(shard: str, member: str, offset: int, size: int) -> str:
    """The path of a video inside a tar file; offset and size in bytes."""
    return f"{shard}#{member}@{offset}+{size}"


def shard_of(path: str) -> str:
    """The tar file that a video is in; for other videos their own path."""
    match = _MEMBER.fullmatch(path)
    return match[1] if match else path


def is_remote(path: str) -> bool:
    """Whether fsspec reads this: an address with a protocol."""
    return "://" in path


def open_file(path: str) -> IO[bytes]:
    """A file on disk or at an address, for reading; OSError if it cannot be."""
    if not is_remote(path):
        return open(path, "rb")
    import fsspec  # slow to import, and mostly not needed

    opened: IO[bytes] = fsspec.open(path, "rb").open()
    return opened


def read_member(path: str) -> bytes:
    """The bytes of the video that a member's path names.

    Raises:
        VideoError: they cannot be read, or the file ends before them.
    """
    match = _MEMBER.fullmatch(path)
    if match is None:
        raise VideoError(path, "not a video in a tar shard; use another data/decoder, or data=shards")
    shard, offset, size = match[1], int(match[3]), int(match[4])
    try:
        if is_remote(shard):
            from fsspec.core import url_to_fs

            system, place = url_to_fs(shard)
            content: bytes = system.cat_file(place, start=offset, end=offset + size)
        else:
            with open(shard, "rb") as file:
                file.seek(offset)
                content = file.read(size)
    except OSError as error:
        raise VideoError(path, f"cannot be read: {error.strerror or error}") from error
    if len(content) != size:
        raise VideoError(path, f"the shard ends after {len(content)} of {size} bytes")
    return content


class MemberReader(VideoReader):
    """A video that another decoder reads from a copy, which goes with this reader."""

    def __init__(self, path: str, decoder: Decoder) -> None:
        self.path = path
        content = read_member(path)
        suffix = os.path.splitext(path.rpartition("@")[0])[1]
        with tempfile.NamedTemporaryFile(dir=_FOLDER, prefix="nlnet-", suffix=suffix, delete=False) as copy:
            self._copy: str | None = copy.name
            copy.write(content)
        self._reader: VideoReader | None = None
        try:
            self._reader = self._named(decoder.open, copy.name)
        except BaseException:
            self.close()
            raise
        self.info = self._reader.info

    def _named(self, read: Any, *arguments: Any) -> Any:
        """What ``read`` gives; its errors name the member."""
        try:
            return read(*arguments)
        except VideoError as error:
            raise VideoError(self.path, error.reason) from error

    def _decode(self, indices: list[int]) -> Frames:
        assert self._reader is not None
        frames: Frames = self._named(self._reader.frames, indices)
        return frames

    def read(self, view: "View") -> Frames:
        """As the other decoder does."""
        assert self._reader is not None
        frames: Frames = self._named(self._reader.read, view)
        return frames

    def read_all(self, views: Sequence["View"], *, max_bytes: int = 1 << 29) -> list[Frames]:
        """As the other decoder does."""
        assert self._reader is not None
        clips: list[Frames] = self._named(self._reader.read_all, views)
        return clips

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._copy is not None:
            os.unlink(self._copy)
            self._copy = None


class ShardDecoder(Decoder):
    """Opens the videos of tar shards by another decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def unreadable(self, path: str) -> str | None:
        """Whether the shard is there; the video in it was, when the shards were listed."""
        shard = shard_of(path)
        return None if is_remote(shard) else unreadable(shard)

    def _open(self, path: str) -> VideoReader:
        return MemberReader(path, self.decoder)
