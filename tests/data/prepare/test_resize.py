"""Smaller copies: size, aspect, orientation, times, key frames, picture; and what is done once only."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from nlnet.cli import run
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.prepare.resize import scaled_size
from tests.data.prepare.conftest import contents, kill_at


def write(path: Path, *, size: tuple[int, int], frames: int, codec: str = "libx264", **options: Any) -> None:
    """A video of a bright square that moves over a gradient; ``times`` are the frames' own, in 1/25 s."""
    width, height = size
    times = options.get("times", range(frames))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        if options.get("sound"):
            container.add_stream("aac", rate=16000)
        gradient = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 60, width))
        for number, time in zip(range(frames), times, strict=True):
            pixels = np.repeat(gradient[:, :, None], 3, axis=2).astype(np.uint8)
            pixels[: height // 4, (number * 4) % (width - 16) :][:, :16, 0] = 250
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def facts(path: Path) -> tuple[tuple[int, int], list[Fraction], list[int]]:
    """(width, height), times of the frames from the first on, numbers of the key frames."""
    with av.open(str(path)) as container:
        assert not container.streams.audio
        frames = list(container.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames]
        keys = [number for number, frame in enumerate(frames) if frame.key_frame]
        return (frames[0].width, frames[0].height), [time - times[0] for time in times], keys


def frames(path: Path, indices: list[int]) -> npt.NDArray[np.float64]:
    """[T, H, W, 3]."""
    with PyAVDecoder().open(str(path)) as reader:
        return reader.frames(indices).astype(np.float64)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((340, 256), 256, (340, 256)),
        ((1920, 1080), 256, (456, 256)),
        ((1080, 1920), 256, (256, 456)),
        ((1280, 720), 320, (568, 320)),
        ((853, 480), 256, (454, 256)),
        ((100, 50), 256, (100, 50)),
        ((101, 51), 256, (100, 52)),
        ((1, 1), 256, (2, 2)),
        ((4000, 20), 256, (4000, 20)),
    ],
)
def test_scaled_size(size: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    assert scaled_size(*size, short_side) == expected


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("originals")
    write(root / "wide/a.mp4", size=(192, 108), frames=70)
    write(root / "tall/b b.avi", size=(108, 192), frames=12, codec="mpeg4")
    write(root / "tall/vp9.webm", size=(160, 120), frames=12, codec="libvpx-vp9")
    write(root / "wide/vfr.mkv", size=(160, 120), frames=12, times=[n * (n + 1) // 2 for n in range(12)])
    write(root / "wide/sound.mov", size=(64, 48), frames=5, sound=True)
    (root / "wide/bad.mp4").write_text("no video")
    return root


def test_copies(originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", ["resize", str(originals), "--out", str(tmp_path), "--workers", "2", "--short-side", "64"]) == 0
    assert "5 of 6 videos" in capsys.readouterr().out
    assert (tmp_path / "failed.csv").read_text().splitlines()[1:] == [
        "wide/bad.mp4,failed,Invalid data found when processing input"
    ]
    sizes = {
        "wide/a": (114, 64),
        "tall/b b": (64, 114),
        "tall/vp9": (86, 64),
        "wide/vfr": (86, 64),
        "wide/sound": (64, 48),
    }
    copies = {name: facts(tmp_path / f"{name}.mp4") for name in sizes}
    assert {name: size for name, (size, _, _) in copies.items()} == sizes
    assert len(copies["wide/a"][1]) == 70
    assert {0, 30, 60} <= set(copies["wide/a"][2])
    assert [round(time * 25) for time in copies["wide/vfr"][1]] == [n * (n + 1) // 2 for n in range(12)]

    # The picture is that of the source, scaled by another library.
    with (
        PyAVDecoder().open(str(originals / "wide/a.mp4")) as source,
        PyAVDecoder().open(str(tmp_path / "wide/a.mp4")) as copy,
    ):
        before, after = source.frames([0, 33, 69]).astype(float), copy.frames([0, 33, 69]).astype(float)
    rows, columns = (np.linspace(0, length - 1, 16).round().astype(int) for length in (108, 192))
    small_rows, small_columns = (np.linspace(0, length - 1, 16).round().astype(int) for length in (64, 114))
    difference = np.abs(before[:, rows][:, :, columns] - after[:, small_rows][:, :, small_columns])
    assert np.median(difference) < 4


def test_rotation_is_in_the_pixels(test_videos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "rotated.mov"
    source.symlink_to(test_videos / "odd_videos" / "rotated_90.mov")
    command = ["resize", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--short-side", "320", "--quality", "5"]
    assert run("data", command) == 0
    before, after = (frames(path, [0, 2]) for path in (source, tmp_path / "out/rotated.mp4"))
    assert before.shape == after.shape == (2, 568, 320, 3)
    assert np.abs(before - after).mean() < 3
    assert np.abs(before[:, ::-1] - after).mean() > 10  # which no turn of the picture would be
    assert np.abs(before[:, :, ::-1] - after).mean() > 10


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [
        ([65536, 0, 0, 0, 65536], (False, False, False)),
        ([0, 65536, 0, -65536, 0], (True, False, True)),
        ([-65536, 0, 0, 0, -65536], (False, True, True)),
        ([0, -65536, 0, 65536, 0], (True, True, False)),
        (None, (False, False, False)),
    ],
)
def test_orientation(matrix: list[int] | None, orientation: tuple[bool, bool, bool]) -> None:
    from types import SimpleNamespace

    from nlnet.data.decoders.pyav import orientation_of

    side_data = {} if matrix is None else {"DISPLAYMATRIX": np.array([*matrix, 0, 0, 0, 1 << 30], np.int32).tobytes()}
    assert orientation_of(SimpleNamespace(side_data=side_data)) == orientation


def test_killed_and_started_again(originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "resize", str(originals), "--workers", "1", "--short-side", "64", "--out"]
    kill_at("nlnet.data.prepare.ledger:Ledger.record", 3, [*command, str(tmp_path / "cut")], tmp_path)
    done = {path: path.stat().st_ino for path in (tmp_path / "cut").rglob("[!.]*.mp4")}
    assert len(done) == 3
    for name in ("cut", "whole"):
        assert run("data", [*command[1:], str(tmp_path / name)]) == 0
    cut, whole = contents(tmp_path / "cut"), contents(tmp_path / "whole")
    assert cut.keys() == whole.keys()
    assert cut["failed.csv"] == whole["failed.csv"]
    for name in cut.keys() - {"failed.csv"}:
        assert facts(tmp_path / "cut" / name) == facts(tmp_path / "whole" / name)
    assert all(path.stat().st_ino == number for path, number in list(done.items())[:2]), "made once"
    capsys.readouterr()
    lost = next(iter(done))
    lost.unlink()
    assert run("data", [*command[1:], str(tmp_path / "cut")]) == 0
    assert "5 of 6 were done before" in capsys.readouterr().err
    assert lost.is_file()


def test_two_videos_never_share_a_copy(tmp_path: Path) -> None:
    write(tmp_path / "in/a.mp4", size=(32, 32), frames=2)
    write(tmp_path / "in/a.mkv", size=(32, 32), frames=2)
    assert run("data", ["resize", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    (line,) = (tmp_path / "out/failed.csv").read_text().splitlines()[1:]
    assert line.startswith("a.mp4,failed,another video's copy would have the same name")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--short-side", "255"], "--short-side must be an even number"),
        (["--key-frame-every", "0"], "--key-frame-every"),
        (["--quality", "52"], "--quality"),
        (["--out", "."], "is the folder of the videos themselves"),
        (["--preset", "quick"], "--preset=quick: x264 has"),
    ],
)
def test_wrong_options(
    options: list[str],
    message: str,
    originals: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(originals)
    assert run("data", ["resize", str(originals), "--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
