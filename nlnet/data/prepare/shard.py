"""``nlnet data shard``: videos into tar files that are read from beginning to end, in the layout of webdataset.

A sample is its members of one key: ``00000012.json`` ({"name": …, "label": 3}), ``00000012.cls`` (the label as text,
where there is exactly one) and ``00000012.mp4``, the video as it was, with its extension. The videos are in random
order, since a reader can only shuffle near neighbours. Beside the shards stand classes.txt and PREFIX.json, an index in
the layout of webdataset's wids: {"shardlist": [{"url": "train-000000.tar", "nsamples": …, "filesize": …}, …]}.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nlnet.data.decoders import unreadable
from nlnet.data.prepare.files import write_table, write_text, written_whole
from nlnet.data.prepare.labels import Numbers
from nlnet.data.prepare.ledger import Ledger
from nlnet.data.prepare.progress import Progress
from nlnet.data.prepare.sources import Sources
from nlnet.errors import ConfigError, DataError


class _Sample(NamedTuple):
    number: int  # in the order of the shards
    name: str
    label: str
    path: str
    size: int  # bytes


def shard(
    sources: Sources,
    out: Path,
    *,
    prefix: str = "train",
    max_bytes: int = 1 << 30,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> str:
    """Writes OUT/PREFIX-000000.tar and so on, the index and what was left out -> a summary.

    Shards are written whole or not at all; after a kill those that were done stay. The same videos and options give the
    same bytes.

    Args:
        max_bytes: of the videos in one shard; a larger video has a shard of its own.
        classes: names in the order of the labels; None as ``Numbers`` has it.
        seed: of the order.
    """
    if max_bytes < 1:
        raise ConfigError(f"--megabytes must be positive, not {max_bytes / 1e6:g}")
    with Ledger(out, verb=f"shard-{prefix}", settings={"max_bytes": max_bytes, "seed": seed}) as ledger:
        ledger.fill(sources, place=lambda each: hashlib.sha256(f"{seed}/{each.name}".encode()).hexdigest())
        numbers = Numbers(ledger.labels(), classes=classes, source=sources.paths[0])
        digest = hashlib.sha256(json.dumps(numbers.classes).encode())
        for sample in _samples(ledger, sources):
            digest.update(json.dumps([sample.name, sample.label, sample.size]).encode())
        ledger.hold_to("videos or classes, by digest", digest.hexdigest())
        left_out = write_table(out / f"{prefix}_left_out.csv", ("name", "reason"), _left_out(ledger, sources))
        shards = []
        bar = Progress("shard", total=len(ledger) - left_out)
        for number, part in enumerate(_parts(_samples(ledger, sources), max_bytes)):
            file = out / f"{prefix}-{number:06d}.tar"
            done = ledger.noted(file.name)
            if done is None or not file.is_file() or file.stat().st_size != json.loads(done)["filesize"]:
                _write(file, part, numbers)
                done = json.dumps({"url": file.name, "nsamples": len(part), "filesize": file.stat().st_size})
                ledger.note(file.name, done)
            shards.append(json.loads(done))
            bar.add(len(part))
        bar.end()
    if not shards:
        raise DataError(f"{sources.paths[0]}: no video to put into shards; {left_out} are missing or empty")
    for old in sorted(out.glob(f"{prefix}-[0-9]*.tar"))[len(shards) :]:
        raise DataError(f"{old}: left from other shards; remove it, or give another --out or --prefix")
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in numbers.classes))
    index = {"wids_version": 1, "name": prefix, "shardlist": shards}
    write_text(out / f"{prefix}.json", json.dumps(index, indent=1) + "\n")
    return (
        f"{bar.count} videos of {len(numbers.classes)} classes in {len(shards)} shards: {out}/{prefix}-*.tar, index "
        f"{out}/{prefix}.json; {left_out} missing or empty ({prefix}_left_out.csv)"
    )


def _samples(ledger: Ledger, sources: Sources) -> Iterator[_Sample]:
    """The videos that are there, in the order of the shards."""
    number = 0
    for row in ledger.rows():
        path = sources.path_of(row.name)
        if unreadable(path) is None:
            yield _Sample(number, row.name, row.label, path, os.path.getsize(path))
            number += 1


def _left_out(ledger: Ledger, sources: Sources) -> Iterator[tuple[str, str]]:
    for row in ledger.rows():
        if reason := unreadable(sources.path_of(row.name)):
            yield row.name, reason


def _parts(samples: Iterator[_Sample], max_bytes: int) -> Iterator[list[_Sample]]:
    """Samples in a row that have ``max_bytes`` together, or a single one."""
    part: list[_Sample] = []
    size = 0
    for sample in samples:
        if part and size + sample.size > max_bytes:
            yield part
            part, size = [], 0
        part.append(sample)
        size += sample.size
    if part:
        yield part


def _write(file: Path, part: list[_Sample], numbers: Numbers) -> None:
    with written_whole(file) as unfinished, tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in part:
            label = numbers(sample.label)
            key = f"{sample.number:08d}"
            _add(tar, f"{key}.json", json.dumps({"name": sample.name, "label": label}).encode())
            if isinstance(label, int):
                _add(tar, f"{key}.cls", str(label).encode())
            with open(sample.path, "rb") as video:
                member = tarfile.TarInfo(key + os.path.splitext(sample.path)[1].lower())
                member.size = sample.size
                tar.addfile(member, video)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
