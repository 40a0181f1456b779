"""Finding the file of an annotated video, whatever its container: published lists and copies on disk rarely agree."""

import os

from nlnet.errors import DataError

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts"}
)


def is_video(file: str) -> bool:
    """Whether a file name is that of a video, and not hidden."""
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_EXTENSIONS


def stem_of(file: str) -> str:
    """A file name without its extensions; downloaders leave names such as ``9EnSwbXxu5g.mp4.webm``."""
    stem, extension = os.path.splitext(file)
    while extension.lower() in VIDEO_EXTENSIONS:
        file = stem
        stem, extension = os.path.splitext(file)
    return file


class VideoFiles:
    """The video files in ``folder`` and in the folders directly below it, by the stem of their names.

    Args:
        folder: such as root/train.
        key: what sets it, for the error where there is no such folder.
        ignore_case: whether ``A.avi`` is found as ``a``. Not for names that YouTube made.
    """

    def __init__(self, folder: str, *, key: str, ignore_case: bool = False) -> None:
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: no such folder of videos; set data.root, or {key}")
        self.folder = os.path.abspath(folder)
        self.ignore_case = ignore_case
        self._files: dict[str, list[str]] = {}  # paths from the folder, by stem
        with os.scandir(self.folder) as listing:
            for entry in sorted(listing, key=lambda entry: entry.name):
                if is_video(entry.name):
                    self._add(entry.name)
                elif entry.is_dir() and not entry.name.startswith("."):
                    for file in sorted(os.listdir(entry)):
                        if is_video(file):
                            self._add(os.path.join(entry.name, file))

    def _add(self, file: str) -> None:
        stem = stem_of(os.path.basename(file))
        self._files.setdefault(stem.casefold() if self.ignore_case else stem, []).append(file)

    def find(self, stem: str, *, preferred: str = "") -> str | None:
        """Path of the video with this stem, or None. Of several, the one in the folder ``preferred`` wins."""
        found = self._files.get(stem.casefold() if self.ignore_case else stem, [])
        chosen = [file for file in found if os.path.dirname(file).replace("_", " ") == preferred.replace("_", " ")]
        return os.path.join(self.folder, (chosen or found)[0]) if found else None

    def expected(self, *parts: str) -> str:
        """Where a video that is not there would be: counted as missing."""
        return os.path.join(self.folder, *parts)

    def stems(self) -> list[str]:
        """All stems, as written where case counts."""
        return list(self._files)
