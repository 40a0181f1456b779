"""The videos of a folder or a list file, one after the other: no list of them is ever held."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nlnet.data.annotations.lists import PLAIN, ListForm, iterate_list
from nlnet.data.annotations.video_files import is_video
from nlnet.errors import DataError


@dataclass(frozen=True)
class Listed:
    """A video that a source names."""

    name: str  # relative to the root, or absolute where a list says so
    label: str  # as written in a list; of a folder the name of the class folder, "" directly in the root
    where: str  # FILE:LINE, or the folder


@dataclass(frozen=True)
class Sources:
    """Folders and list files, and the folder that their names start from.

    Args:
        root: None for the folder itself, or the folder of the first list.
        skip: told of the files that cannot be in a list, with the reason.
        form: of the lists.
    """

    paths: Sequence[str]
    root: str | None = None
    skip: Callable[[str, str], None] | None = None
    form: ListForm = PLAIN

    def __post_init__(self) -> None:
        for path in self.paths:
            if not os.path.exists(path):
                raise DataError(f"{path}: no such folder or list of videos")
        if self.root is not None and not os.path.isdir(self.root):
            raise DataError(f"{self.root}: no such folder; --root is the folder that the lists' paths start from")
        if len(self.paths) > 1 and any(map(os.path.isdir, self.paths)):
            raise DataError(f"{', '.join(self.paths)}: give one folder, or lists that share a root")

    @property
    def folder(self) -> str:
        """The root, absolute."""
        first = self.paths[0]
        return os.path.abspath(self.root or (first if os.path.isdir(first) else os.path.dirname(first) or "."))

    def path_of(self, name: str) -> str:
        """Where the file of a name lies."""
        return os.path.join(self.folder, name)

    def __iter__(self) -> Iterator[Listed]:
        for path in self.paths:
            if os.path.isdir(path):
                for name in videos_below(path, skip=self.skip):
                    label, slash, _ = name.partition("/")
                    beside = os.path.relpath(os.path.join(path, name), self.folder)
                    yield Listed(beside, label if slash else "", path)
            else:
                for line, name, label in iterate_list(path, root=self.folder, form=self.form):
                    yield Listed(name, label, f"{path}:{line}")


def videos_below(folder: str, *, skip: Callable[[str, str], None] | None = None) -> Iterator[str]:
    """Videos in a folder and all folders below it, relative to it with ``/``, in no order.

    Links to folders are followed, once around where they make a circle. Hidden files and folders are left out.

    Args:
        skip: told of files whose names no list can hold (not UTF-8, or with a line break), and of unreadable folders.
    """
    skip = skip or (lambda path, reason: None)
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        relative, parents = waiting.pop()
        path = os.path.join(folder, relative)
        try:
            status = os.stat(path)
            here = (status.st_dev, status.st_ino)
            if here in parents:
                continue
            with os.scandir(path) as listing:
                for entry in listing:
                    name = f"{relative}/{entry.name}" if relative else entry.name
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append((name, parents | {here}))
                    elif is_video(entry.name):
                        if reason := unlistable(name):
                            skip(name, reason)
                        else:
                            yield name
        except OSError as error:
            skip(relative or folder, f"cannot be read: {error.strerror}")


def unlistable(name: str) -> str | None:
    """Why no list can hold a name, or None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    return "there is a line break in the name; rename the file" if len(name.splitlines()) > 1 else None
