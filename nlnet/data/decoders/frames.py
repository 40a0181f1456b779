"""Folders of extracted frames as videos: img_00001.jpg, img_00002.jpg, … of one folder are the frames of one video.

For lists whose paths are folders (those of TSM and gluon-cv, for example, ``FOLDER FRAMES LABEL``).
"""

import os
import re
import string

import numpy as np
from PIL import Image, ImageOps

from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.errors import ConfigError, VideoError

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)", re.DOTALL)


class FramesReader(VideoReader):
    """One folder of frames."""

    def __init__(self, path: str, files: list[str], frames_per_second: float) -> None:
        self.path = path
        self._files = files
        height, width, _ = self._frame(files[0]).shape
        self.info = VideoInfo(len(files), height, width, frames_per_second)

    def _decode(self, indices: list[int]) -> Frames:
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        for place, index in enumerate(indices):
            frame = self._frame(self._files[index])
            if frame.shape != frames.shape[1:]:
                size = f"{frame.shape[1]}x{frame.shape[0]}"
                raise VideoError(self.path, f"{self._files[index]} is {size}, not {self.info.width}x{self.info.height}")
            frames[place] = frame
        return frames

    def _frame(self, file: str) -> Frames:
        """One image as it is shown (phones turn theirs by a mark) -> [H, W, 3]."""
        try:
            with Image.open(os.path.join(self.path, file)) as image:
                pixels: Frames = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow raises each of them
            raise VideoError(self.path, f"{file}: {str(error).splitlines()[0]}") from error
        return pixels

    def close(self) -> None:
        """Nothing stays open."""


class FramesDecoder(Decoder):
    """Opens folders of frames.

    Frame 0 is the file with the lowest number, whether that is 0 or 1. A number that is missing between others makes
    the video a bad one (VideoError), as a hole in a file does.

    Args:
        pattern: names of the files, such as ``img_{number:05d}.jpg`` or ``{folder}-{number:06d}.jpg`` with the name of
            the folder; None takes all images of a folder, which must have one name but for the number at its end.
        frames_per_second: of all videos; 0 where it is not known (then no label can go by time).
    """

    def __init__(self, *, pattern: str | None = None, frames_per_second: float = 0.0) -> None:
        if pattern is not None:
            _check(pattern)
        if frames_per_second < 0:
            raise ConfigError(f"data.decoder.frames_per_second must be at least 0, not {frames_per_second}")
        self.pattern = pattern
        self.frames_per_second = frames_per_second

    def unreadable(self, path: str) -> str | None:
        """As for files, of a folder."""
        if os.path.isdir(path):
            return None
        return "not a folder of frames" if os.path.exists(path) else "no such folder"

    def _open(self, path: str) -> VideoReader:
        try:
            listed = os.listdir(path)
        except OSError as error:
            raise VideoError(path, f"cannot be read: {error.strerror}") from error
        files = self._numbered(path, listed)
        if not files:
            raise VideoError(path, f"no frames {self.pattern or '*.jpg'}")
        first, last = min(files), max(files)
        if len(files) != last - first + 1:
            missing = next(number for number in range(first, last) if number not in files)
            raise VideoError(path, f"{last - first + 1 - len(files)} frames are missing, the first is number {missing}")
        return FramesReader(path, [files[number] for number in range(first, last + 1)], self.frames_per_second)

    def _numbered(self, path: str, listed: list[str]) -> dict[int, str]:
        """Number -> file, of the frames in a folder."""
        parts = [(match, file) for file in listed if (match := _NUMBERED.fullmatch(file))]
        if self.pattern is not None:
            folder = os.path.basename(os.path.normpath(path))
            found = {}
            for match, file in parts:
                # The number as the pattern writes it: leading zeros decide which digits are the number's.
                for digits in range(len(match[2])):
                    number = int(match[2][digits:])
                    if self.pattern.format(number=number, folder=folder) == file:
                        found[number] = file
                        break
            return found
        images = [(match, file) for match, file in parts if match[3].lower() in _IMAGES and not file.startswith(".")]
        names = sorted({match[1] for match, _ in images})
        if len(names) > 1:
            raise VideoError(
                path,
                f"frames of several names ({', '.join(names[:4])}); set data.decoder.pattern=img_{{number:05d}}.jpg",
            )
        return {int(match[2]): file for match, file in images}


def _check(pattern: str) -> None:
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
        pattern.format(number=1, folder="x")
    except (ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"data.decoder.pattern={pattern}: not a pattern ({error!r})") from error
    if "number" not in fields or not fields <= {"number", "folder"}:
        raise ConfigError(f"data.decoder.pattern={pattern}: it needs {{number}}, such as img_{{number:05d}}.jpg")
