"""Videos in a folder per class: class number k is the k-th class folder in order of name."""

import hashlib
import os

from nlnet.data.annotations.records import Annotations, Video, VideoList
from nlnet.data.annotations.video_files import VIDEO_EXTENSIONS, is_video
from nlnet.errors import ConfigError, DataError

_LAYOUT = "expected ROOT/<class>/*.mp4, or ROOT/train/<class>/*.mp4 and ROOT/val/<class>/*.mp4"


def from_folder(*, root: str, val_fraction: float = 0.2, seed: int = 0) -> Annotations:
    """Videos from one folder per class: root/train/<class>/* and root/val/<class>/*, or root/<class>/*.

    In the second form ``val_fraction`` of each class (rounded, at least one video where there are two) becomes the
    validation set. Which ones depends on ``seed`` and the file names only: a video added later moves no other.
    """
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder; {_LAYOUT}")
    train_root, val_root = os.path.join(root, "train"), os.path.join(root, "val")
    folders = _class_folders(root)
    if "val" in folders and "train" in folders:
        train, val = _class_folders(train_root), _class_folders(val_root)
        if unknown := sorted(val.keys() - train.keys()):
            raise DataError(f"{os.path.join(val_root, unknown[0])}: no such class in {train_root}; {_LAYOUT}")
        classes = tuple(sorted(train))
        return Annotations(
            VideoList(_folder_videos(root, "train", classes, train), classes, train_root),
            VideoList(_folder_videos(root, "val", classes, val), classes, val_root),
        )
    if "train" in folders and not folders["train"]:
        raise DataError(f"{train_root}: found, but no {val_root}: add it, or set data.root={train_root} to split that")
    if not 0 < val_fraction < 1:
        raise ConfigError(f"data.annotations.val_fraction must lie between 0 and 1, not {val_fraction}")
    classes = tuple(sorted(folders))
    held_out = {name: _held_out(name, files, val_fraction, seed) for name, files in folders.items()}
    kept = {name: [file for file in files if file not in held_out[name]] for name, files in folders.items()}
    val_videos = _folder_videos(root, "", classes, held_out, allow_empty=True)
    if not val_videos:
        raise DataError(f"{root}: every class has a single video, so none is left for validation; add videos")
    return Annotations(
        VideoList(_folder_videos(root, "", classes, kept), classes, root), VideoList(val_videos, classes, root)
    )


def _class_folders(root: str) -> dict[str, list[str]]:
    """Class name -> its video files, sorted; hidden files and files of other kinds are left out."""
    folders: dict[str, list[str]] = {}
    with os.scandir(root) as listing:
        for folder in sorted(listing, key=lambda entry: entry.name):
            if folder.is_dir() and not folder.name.startswith("."):
                folders[folder.name] = sorted(file for file in os.listdir(folder) if is_video(file))
    if not folders:
        raise DataError(f"{root}: no class folders; {_LAYOUT}")
    return folders


def _folder_videos(
    root: str, split: str, classes: tuple[str, ...], folders: dict[str, list[str]], *, allow_empty: bool = False
) -> tuple[Video, ...]:
    videos = []
    for name, files in folders.items():
        if not files and not allow_empty:
            raise DataError(
                f"{os.path.join(root, split, name)}: no videos; {_LAYOUT} "
                f"(one of {' '.join(sorted(VIDEO_EXTENSIONS))}), or remove the folder"
            )
        for file in files:
            relative = os.path.join(split, name, file)
            videos.append(Video(os.path.abspath(os.path.join(root, relative)), classes.index(name), relative))
    return tuple(videos)


def _held_out(class_name: str, files: list[str], fraction: float, seed: int) -> list[str]:
    """The validation videos of one class: those whose hashed name comes first."""
    count = min(max(1, round(len(files) * fraction)), len(files) - 1)
    ranked = sorted(files, key=lambda file: hashlib.sha256(f"{seed}/{class_name}/{file}".encode()).digest())
    return sorted(ranked[: max(0, count)])
