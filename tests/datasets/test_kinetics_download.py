"""The download recipe of Kinetics against a server that has faults."""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Site:
    """Files, how often each was asked for, and what is to go wrong with it."""

    files: dict[str, bytes]
    address: str = ""
    cut: dict[str, list[int]] = field(default_factory=dict)  # bytes after which the connection breaks, answer by answer
    status: dict[str, list[int]] = field(default_factory=dict)  # error codes, answer by answer
    digests: dict[str, list[str]] = field(default_factory=dict)  # announced instead of the right one
    ranges: bool = True
    asked: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def site() -> Iterator[Site]:
    names = ["-aaaaaaaaaa_000000_000010", "bbbbbbbbbbb_000001_000011", "ccccccccccc_000002_000012"]
    videos = {f"{name}.mp4": name.encode() * 5000 for name in names}
    files = {
        "/400/annotations/train.csv": b"label,youtube_id,time_start,time_end,split\n",
        "/400/annotations/val.csv": b"label,youtube_id,time_start,time_end,split\n",
        "/400/train/part 0.tar.gz": tar_of({f"./{name}": content for name, content in list(videos.items())[:2]}),
        "/400/train/part_1.tar.gz": tar_of({"ccccccccccc_000002_000012.mp4": b"cut off"}),
        "/400/val/part_0.tar.gz": tar_of({"vvvvvvvvvvv_000002_000012.mp4": b"val"}),
        "/400/replacement_for_corrupted_k400.tgz": tar_of(
            {f"replacement_for_corrupted_k400/{names[2]}.mp4": videos[f"{names[2]}.mp4"]}
        ),
    }
    site = Site(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.replace("%20", " ")
            site.asked[path] += 1
            errors = site.status.get(path, [])
            if errors or path not in site.files:
                self.send_error(errors.pop(0) if errors else 404)
                return
            content = site.files[path]
            tags = site.digests.get(path, [])
            tag = f'"{tags.pop(0) if tags else hashlib.md5(content).hexdigest()}"'
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = 0
            if wanted and site.ranges and self.headers["If-Range"] == tag:
                start = int(wanted[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cuts = site.cut.get(path, [])
            part = content[start:]
            if cuts:
                part = part[: cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(part)
            site.sent[path] += len(part)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    train = [f"{site.address}/400/train/{name}" for name in ("part%200.tar.gz", "part_1.tar.gz")]
    files["/400/train/k400_train_path.txt"] = "\n".join(train).encode()
    files["/400/val/k400_val_path.txt"] = f"{site.address}/400/val/part_0.tar.gz\n".encode()
    yield site
    server.shutdown()
    server.server_close()


PART = "/400/train/part 0.tar.gz"


def download(
    site: Site, root: Path, repository: Path, *options: str, code: int = 0
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(repository / "datasets/kinetics/download.py"), "400", str(root)]
    command += ["--base", site.address, "--pause", "0", "--attempts", "4", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done


def videos(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*.mp4"))}


WHOLE = {
    "train/-aaaaaaaaaa_000000_000010.mp4": 125_000,
    "train/bbbbbbbbbbb_000001_000011.mp4": 125_000,
    "train/ccccccccccc_000002_000012.mp4": 125_000,
    "val/vvvvvvvvvvv_000002_000012.mp4": 3,
}


def test_all_is_fetched_once(site: Site, tmp_path: Path, repository: Path) -> None:
    download(site, tmp_path, repository)
    assert videos(tmp_path) == WHOLE, "cut-off videos are replaced"
    assert (tmp_path / "annotations/train.csv").is_file()
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.gz")), "unpacked archives are gone"
    before = Counter(site.asked)
    download(site, tmp_path, repository)
    assert site.asked == before, "nothing is asked for again"


def test_a_broken_connection_goes_on_where_it_was(site: Site, tmp_path: Path, repository: Path) -> None:
    size = len(site.files[PART])
    site.cut[PART] = [size // 3, size // 3]
    download(site, tmp_path, repository)
    assert videos(tmp_path) == WHOLE
    assert site.asked[PART] == 3
    assert site.sent[PART] == size, "no byte came twice"


def test_a_run_that_was_stopped_goes_on(site: Site, tmp_path: Path, repository: Path) -> None:
    site.cut[PART] = [100] * 4
    download(site, tmp_path, repository, code=1)
    assert (tmp_path / "archives/train/part%200.tar.gz.part").stat().st_size == 400
    site.files[PART] = tar_of({"new.mp4": b"x" * 99})  # another file under that name: it comes whole
    download(site, tmp_path, repository)
    assert (tmp_path / "train/new.mp4").stat().st_size == 99


def test_servers_without_ranges_and_with_passing_errors(site: Site, tmp_path: Path, repository: Path) -> None:
    site.ranges = False
    site.cut[PART] = [50]
    site.status["/400/val/part_0.tar.gz"] = [503, 500]
    download(site, tmp_path, repository)
    assert videos(tmp_path) == WHOLE


def test_what_is_not_there_is_named_and_the_rest_is_fetched(site: Site, tmp_path: Path, repository: Path) -> None:
    del site.files["/400/train/part_1.tar.gz"]
    done = download(site, tmp_path, repository, code=1)
    assert f"{site.address}/400/train/part_1.tar.gz: 404" in done.stderr
    assert "1 files could not be had" in done.stderr
    assert site.asked["/400/train/part_1.tar.gz"] == 1
    assert videos(tmp_path) == WHOLE, "the replacement was there"


def test_a_wrong_digest_is_fetched_again_and_then_refused(site: Site, tmp_path: Path, repository: Path) -> None:
    site.digests[PART] = ["0" * 32]
    download(site, tmp_path / "one", repository)
    assert videos(tmp_path / "one") == WHOLE
    site.digests[PART] = ["0" * 32] * 4
    done = download(site, tmp_path / "two", repository, code=1)
    assert "the digest is another than the server announces" in done.stderr
    assert "train/-aaaaaaaaaa_000000_000010.mp4" not in videos(tmp_path / "two")


def test_archives_that_cannot_be_unpacked_or_lead_out_of_the_folder(
    site: Site, tmp_path: Path, repository: Path
) -> None:
    site.files["/400/val/part_0.tar.gz"] = b"no archive"
    site.files["/400/train/part_1.tar.gz"] = tar_of({"../../escaped.mp4": b"x"})
    done = download(site, tmp_path / "root", repository, code=1)
    assert "part_0.tar.gz: " in done.stderr
    assert "part_1.tar.gz: " in done.stderr
    assert not list(tmp_path.rglob("escaped.mp4"))


def test_annotations_only(site: Site, tmp_path: Path, repository: Path) -> None:
    download(site, tmp_path, repository, "--annotations-only", "--splits", "val")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["val.csv"]
