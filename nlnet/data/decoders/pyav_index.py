"""What the packets of a file tell without decoding: when each frame is shown, and where decoding can start.

A scan reads the whole file once. The tables are small and kept: in memory, bounded, a cache in each process; and in a
folder, where one is named, for the next run.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nlnet.errors import ConfigError

Times = npt.NDArray[np.int64]  # sorted, in units of the stream's time base


@dataclass(frozen=True)
class VideoIndex:
    """The table of one video stream."""

    num_frames: int  # packets that become frames shown; fewer decode where the file is damaged
    height: int  # as stored, before any rotation
    width: int
    orientation: tuple[bool, bool, bool]  # transpose, then turn upside down, then mirror
    frames_per_second: float  # on average; 0 where the file does not say
    seconds_per_unit: float  # of ``times`` and ``keys``
    times: Times = field(repr=False)  # when each frame is shown; empty where the packets do not say
    keys: Times = field(repr=False)  # of the key frames, also of those not shown; empty where no seek can be trusted

    @property
    def num_bytes(self) -> int:
        """About what it takes in memory."""
        return self.times.nbytes + self.keys.nbytes + 1000


class IndexCache:
    """Path -> VideoIndex of the most recently used files, as long as a file has the same size and time of change.

    Several threads may use one. Only the folder travels to worker processes: each has a memory of its own.

    Args:
        max_bytes: of the tables in memory.
        folder: where they are kept on disk too; None for nowhere. Several processes may share it.
    """

    def __init__(self, *, max_bytes: int = 1 << 26, folder: str | None = None) -> None:
        if max_bytes < 0:
            raise ConfigError(f"data.decoder.index_bytes must not be negative: {max_bytes}")
        self.max_bytes = max_bytes
        self.folder = None if folder is None else Path(folder)
        self._entries: OrderedDict[str, tuple[tuple[int, int], VideoIndex]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: str) -> VideoIndex | None:
        """The table of the file as it is now, or None."""
        state = _state(path)
        with self._lock:
            kept = self._entries.get(path)
            if kept is not None and kept[0] == state:
                self._entries.move_to_end(path)
                return kept[1]
        index = None if self.folder is None else _load(_file(self.folder, path), state)
        if index is not None:
            self._keep(path, state, index)
        return index

    def put(self, path: str, index: VideoIndex) -> None:
        """Remember the table of a file."""
        state = _state(path)
        self._keep(path, state, index)
        if self.folder is not None:
            _save(_file(self.folder, path), state, index)

    def _keep(self, path: str, state: tuple[int, int], index: VideoIndex) -> None:
        with self._lock:
            replaced = self._entries.pop(path, None)
            self._entries[path] = (state, index)
            self._bytes += index.num_bytes - (replaced[1].num_bytes if replaced else 0)
            while self._bytes > self.max_bytes:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._bytes -= dropped.num_bytes

    def __reduce__(self) -> tuple[object, ...]:
        return _new_cache, (self.max_bytes, self.folder and str(self.folder))


def _new_cache(max_bytes: int, folder: str | None) -> IndexCache:
    return IndexCache(max_bytes=max_bytes, folder=folder)


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _file(folder: Path, path: str) -> Path:
    name = hashlib.sha256(os.path.abspath(path).encode(errors="surrogateescape")).hexdigest()
    return folder / name[:2] / f"{name[2:34]}.npz"


def _save(file: Path, state: tuple[int, int], index: VideoIndex) -> None:
    """Written aside and moved in place, so that no other process ever reads half a table."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    whole = [*state, index.num_frames, index.height, index.width, *index.orientation]
    with open(aside, "wb") as stream:
        np.savez(
            stream,
            whole=np.array(whole, np.int64),
            rates=np.array([index.frames_per_second, index.seconds_per_unit]),
            times=index.times,
            keys=index.keys,
        )
    os.replace(aside, file)


def _load(file: Path, state: tuple[int, int]) -> VideoIndex | None:
    """The table, or None where there is none, it is of an older state of the video, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            size, changed, num_frames, height, width, transpose, upside_down, mirror = stored["whole"].tolist()
            if (size, changed) != state:
                return None
            orientation = bool(transpose), bool(upside_down), bool(mirror)
            rate, unit = stored["rates"].tolist()
            return VideoIndex(num_frames, height, width, orientation, rate, unit, stored["times"], stored["keys"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception as error:  # zipfile.BadZipFile and zlib.error have no common ancestor
        if type(error).__module__ in ("zipfile", "zlib"):
            return None
        raise
