"""Downloads Kinetics from the CVD Foundation's public copy: ``python download.py 400 ROOT``.

Gets ROOT/annotations/*.csv, the archives of each split, and unpacks them into ROOT/train and ROOT/val. Whatever is
interrupted goes on where it stopped. Each archive is compared with the size and, where the server gives one, the MD5
digest that it announces. Needs Python 3.11 or later and nothing else.
"""

import argparse
import hashlib
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BASE = "https://s3.amazonaws.com/kinetics"
# Version -> folder on the server and beginning of the names there.
VERSIONS = {"400": ("400", "k400"), "600": ("600", "k600"), "700": ("700_2020", "k700_2020")}
# About 1,400 training videos of Kinetics-400 are cut off; these are whole.
REPLACEMENT = "400/replacement_for_corrupted_k400.tgz"
CHUNK = 1 << 20


class Unobtainable(Exception):
    """A file that the server does not give."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", choices=list(VERSIONS), help="700 is that of 2020")
    parser.add_argument("root", type=Path, help="a folder with room for 450 GB (400) to 900 GB")
    parser.add_argument("--splits", nargs="+", choices=["train", "val", "test"], default=["train", "val"])
    parser.add_argument("--parallel", type=int, default=4, help="archives at a time (4)")
    parser.add_argument("--keep-archives", action="store_true", help="do not delete an archive once it is unpacked")
    parser.add_argument("--annotations-only", action="store_true", help="the CSVs, no videos")
    parser.add_argument("--base", default=BASE, help=f"another copy ({BASE})")
    parser.add_argument("--attempts", type=int, default=8, help="for each file (8)")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds before the second attempt, then doubled (2)")
    options = parser.parse_args()
    folder, prefix = VERSIONS[options.version]
    failed: list[str] = []

    def attempt(url: str, target: Path) -> Path | None:
        try:
            return fetch(url, target, attempts=options.attempts, pause=options.pause)
        except Unobtainable as error:
            print(f"failed: {error}", file=sys.stderr)
            failed.append(url)
            return None

    for split in options.splits:
        attempt(f"{options.base}/{folder}/annotations/{split}.csv", options.root / "annotations" / f"{split}.csv")
        if options.version == "600" and split != "test":  # whose CSVs are not complete, says their page
            attempt(f"{options.base}/{folder}/annotations/{split}.txt", options.root / "annotations" / f"{split}.txt")
    for split in [] if options.annotations_only else options.splits:
        urls = f"{options.base}/{folder}/{split}/{prefix}_{split}_path.txt"
        index = attempt(urls, options.root / "archives" / split / "list.txt")
        archives = index.read_text(encoding="utf-8").split() if index else []

        def get(url: str, split: str = split, *, out: str | None = None) -> None:
            archive = options.root / "archives" / split / url.rpartition("/")[2]
            done = archive.with_name(f"{archive.name}.done")
            if done.exists():
                return
            if attempt(url, archive) is None:
                return
            try:
                unpack(archive, options.root / (out or split))
            except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
                if getattr(error, "errno", None) is not None:
                    raise  # the disk is full, say: the archive is not to blame
                print(f"failed: {archive}: {error}; it will be downloaded again", file=sys.stderr)
                archive.unlink()
                failed.append(url)
                return
            done.touch()
            if not options.keep_archives:
                archive.unlink()
            print(f"{archive.name}: unpacked into {options.root / (out or split)}")

        with ThreadPoolExecutor(options.parallel) as pool:
            list(pool.map(get, archives))
        if split == "train" and options.version == "400":
            get(f"{options.base}/{REPLACEMENT}", out="replacement")
            replace(options.root / "replacement", options.root / "train")
    if failed:
        print(f"{len(failed)} files could not be had; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


def fetch(url: str, target: Path, *, attempts: int, pause: float) -> Path:
    """Downloads a file, from where an earlier attempt stopped -> its path.

    Raises:
        Unobtainable: the server does not have it, or all attempts failed.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part, tag_file = (target.with_name(target.name + ending) for ending in (".part", ".tag"))
    reason = "no attempt"
    for number in range(attempts):
        if number:
            time.sleep(pause * 2 ** (number - 1))
        try:
            digest = transfer(url, part, tag_file)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code in (401, 403, 404, 410):
                break
            if error.code == 416:  # what is here is longer than what is there
                part.unlink(missing_ok=True)
        except OSError as error:  # also what urllib raises where there is no connection
            reason = str(error)
        else:
            if digest is None or md5(part) == digest:
                os.replace(part, target)
                tag_file.unlink(missing_ok=True)
                return target
            reason = "the digest is another than the server announces"
            part.unlink()
    raise Unobtainable(f"{url}: {reason}")


def transfer(url: str, part: Path, tag_file: Path) -> str | None:
    """Gets what is missing of a file -> the MD5 that it must have, where the server says one.

    The server's tag of the part that is here is kept beside it: if the file has changed since, it comes whole.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(urllib.parse.quote(url, safe=":/%?=&+"))
    if have and tag_file.exists():
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag_file.read_text())
    with urllib.request.urlopen(request, timeout=60) as answer:
        tag = answer.headers.get("ETag", "")
        goes_on = answer.status == 206
        length = answer.headers.get("Content-Length")
        if not goes_on:
            have = 0
            if tag:
                tag_file.write_text(tag)
            else:
                tag_file.unlink(missing_ok=True)
        with open(part, "ab" if goes_on else "wb") as file:
            shutil.copyfileobj(answer, file, CHUNK)
            file.flush()
            os.fsync(file.fileno())
    if length is not None and part.stat().st_size != have + int(length):
        raise OSError(f"{part.stat().st_size} of {have + int(length)} bytes came")
    # On S3 the tag is the MD5, but for files that were uploaded in parts: those have a dash in it.
    return tag.strip('"') if re.fullmatch(r'"[0-9a-f]{32}"', tag) else None


def md5(path: Path) -> str:
    """The digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """The files of a tar into a folder; each appears whole. Names that lead out of the folder are refused."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile():
                continue
            member = tarfile.data_filter(member, str(folder))
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".part-{target.name}")
            content = tar.extractfile(member)
            assert content is not None  # it is a file
            with content, open(unfinished, "wb") as file:
                shutil.copyfileobj(content, file, CHUNK)
            os.replace(unfinished, target)


def replace(replacements: Path, folder: Path) -> None:
    """Moves whole videos to where the cut-off ones of the same name are."""
    if not replacements.is_dir():
        return
    places = {path.name: path for path in folder.rglob("*.mp4")}
    for video in sorted(replacements.rglob("*.mp4")):
        os.replace(video, places.get(video.name, folder / video.name))
    shutil.rmtree(replacements)


if __name__ == "__main__":
    sys.exit(main())
