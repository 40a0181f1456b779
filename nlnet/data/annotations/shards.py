"""Tar shards in the layout of webdataset, as ``nlnet data shard`` and others write them.

A sample is the members of one key, next to each other: a video (``KEY.mp4``) and its label, in ``KEY.json``
({"name": …, "label": 3}; a list for several labels) or in ``KEY.cls`` (a number or the name of a class). Shards are
PREFIX-*.tar, on disk or anywhere that fsspec reads (https://, s3:// and others, with its package for them). Where
PREFIX.json stands beside them (webdataset's wids index), it names them and their numbers of samples and bytes.
"""

import glob
import json
import os
import tarfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from nlnet.data.annotations.records import Annotations, Entry, Label, Video, assemble
from nlnet.data.annotations.text import number_of
from nlnet.data.annotations.video_files import VIDEO_EXTENSIONS
from nlnet.data.decoders.shards import is_remote, member_path, open_file
from nlnet.errors import DataError


class _Sample(NamedTuple):
    """The members of one key."""

    key: str
    video: tuple[str, int, int] | None  # member, offset, bytes
    texts: dict[str, str]  # of .json and .cls


def from_shards(
    *, root: str, train: str = "train", val: str = "val", classes: str | None = "classes.txt"
) -> Annotations:
    """Videos in root/TRAIN-*.tar and root/VAL-*.tar. Only the heads of the members and the labels are read.

    Args:
        root: a folder, or an address such as https://host/folder.
        train, val: the prefixes of the shards.
        classes: a file with the names of the classes, one a line; None numbers them.
    """
    names = _classes(f"{root}/{classes}") if classes is not None else None
    lists = [_entries(root, prefix, names) for prefix in (train, val)]
    if names is None:
        highest = max((label for part in lists for entry in part for label in _as_tuple(entry.video.label)), default=-1)
        names = tuple(f"class_{label}" for label in range(highest + 1))
    return assemble(*lists, classes=names, sources=(f"{root}/{train}-*.tar", f"{root}/{val}-*.tar"))


def _classes(path: str) -> tuple[str, ...]:
    names = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise DataError(f"{path}: class {twice[0]!r} is there twice; remove one")
    return names


def _entries(root: str, prefix: str, names: Sequence[str] | None) -> list[Entry]:
    numbers = None if names is None else {name: number for number, name in enumerate(names)}
    entries = []
    for shard, expected in _shards(root, prefix):
        samples = _samples(f"{root}/{shard}")
        if expected is not None and len(samples) != expected:
            raise DataError(f"{root}/{shard}: {len(samples)} samples where {prefix}.json has {expected}; copy it again")
        for sample in samples:
            where = f"{root}/{shard}: {sample.key}"
            if sample.video is None:
                raise DataError(f"{where}: no video among its members ({' '.join(sorted(VIDEO_EXTENSIONS))})")
            name, label = _label(where, sample, numbers)
            path = member_path(f"{root}/{shard}", *sample.video)
            entries.append(Entry(where, Video(path, label, name or f"{shard}/{sample.video[0]}")))
    return entries


def _shards(root: str, prefix: str) -> list[tuple[str, int | None]]:
    """The files of the shards, with the number of their samples where the index says it."""
    index = f"{root}/{prefix}.json"
    if is_remote(root) or os.path.isfile(index):
        try:
            listed = [(str(each["url"]), int(each["nsamples"])) for each in json.loads(_text(index))["shardlist"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{index}: not an index of shards ({error!r}); nlnet data shard writes one") from error
        return listed  # type: ignore[return-value]
    found = sorted(os.path.basename(path) for path in glob.glob(f"{glob.escape(root)}/{glob.escape(prefix)}-*.tar"))
    if not found:
        raise DataError(
            f"{root}: no {prefix}-*.tar; set data.root, or data.annotations.train and .val to their prefixes"
        )
    return [(file, None) for file in found]


def _samples(path: str) -> list[_Sample]:
    """The samples of a shard, in order; of the videos only the places."""
    samples: list[_Sample] = []
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, base = os.path.split(member.name)
                stem, _, extension = base.partition(".")
                if not member.isfile() or not stem:
                    continue
                key = os.path.join(folder, stem)
                if not samples or samples[-1].key != key:
                    samples.append(_Sample(key, None, {}))
                if extension.lower() in ("json", "cls"):
                    content = tar.extractfile(member)
                    assert content is not None  # it is a file
                    samples[-1].texts[extension.lower()] = content.read().decode()
                elif (
                    os.path.splitext(extension)[1].lower() in VIDEO_EXTENSIONS
                    or f".{extension.lower()}" in VIDEO_EXTENSIONS
                ):
                    samples[-1] = samples[-1]._replace(video=(member.name, member.offset_data, member.size))
            end = file.seek(0, os.SEEK_END)
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a tar file ({error}); copy it again") from error
    if samples and (last := samples[-1].video) is not None and last[1] + last[2] > end:
        raise DataError(f"{path}: ends within {last[0]}; copy it again")
    return samples


def _label(where: str, sample: _Sample, numbers: dict[str, int] | None) -> tuple[str, Label]:
    """The name of the video where it has one, and its label."""
    facts: Any = {}
    if "json" in sample.texts:
        try:
            facts = json.loads(sample.texts["json"])
        except ValueError as error:
            raise DataError(f"{where}.json: not JSON ({error})") from error
    written = facts.get("label") if isinstance(facts, dict) else None
    if written is None and "cls" in sample.texts:
        text = sample.texts["cls"].strip()
        written = int(text) if text.isdigit() else text
    if written is None:
        raise DataError(f'{where}: no label; it must be in {sample.key}.json ({{"label": 3}}) or {sample.key}.cls')
    name = str(facts.get("name", "")) if isinstance(facts, dict) else ""
    if isinstance(written, list):
        return name, tuple(sorted({_number(where, each, numbers) for each in written}))
    return name, _number(where, written, numbers)


def _number(where: str, written: Any, numbers: dict[str, int] | None) -> int:
    if isinstance(written, str):
        if numbers is None:
            raise DataError(f"{where}: label {written!r} is not a number; name the classes by data.annotations.classes")
        return number_of(where, written, numbers)
    if not isinstance(written, int) or written < 0 or (numbers is not None and written >= len(numbers)):
        known = f"; there are {len(numbers)} classes, from 0" if numbers is not None else ""
        raise DataError(f"{where}: {written!r} is not the number of a class{known}")
    return written


def _as_tuple(label: Label) -> tuple[int, ...]:
    return (label,) if isinstance(label, int) else label


def _text(path: str) -> str:
    try:
        with open_file(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
