"""Files that are damaged, strange or no videos at all: frames or an error with the name, never a crash or a hang."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from nlnet.data.decoders.pyav import PyAVDecoder, PyAVReader
from tests.data.conftest import ENCODINGS, PLAIN, Encoding
from tests.data.test_decoders import DECODERS

CounterVideo = Callable[[Encoding, int], str]


def damaged_files(folder: Path, counter_video: CounterVideo) -> list[str]:
    """Files that are no videos, and videos with a part cut off, overwritten or put in front."""
    rng = np.random.default_rng(0)
    paths = []

    def add(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        paths.append(str(folder / name))

    add("empty.mp4", b"")
    add("page.mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>")
    add("random.mp4", rng.bytes(5000))
    add("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    (folder / "folder.mp4").mkdir()
    paths += [str(folder / "folder.mp4"), str(folder / "missing.mp4")]
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    paths.append(str(folder / "sound.mp4"))
    for key in ("mp4, short groups", "mkv", "avi, mpeg4 with B-frames", "webm, vp9", "ts"):
        source = Path(counter_video(ENCODINGS[key], 83))
        content, kind = source.read_bytes(), source.suffix
        size = len(content)
        add(f"half{kind}", content[: size // 2])
        add(f"tenth{kind}", content[: size // 10])
        noisy = bytearray(content)
        for place in rng.integers(size, size=20):
            noisy[place] = int(rng.integers(256))
        add(f"noisy{kind}", bytes(noisy))
        add(f"hole{kind}", content[: size * 4 // 10] + bytes(size // 10) + content[size * 4 // 10 + size // 10 :])
        add(f"prefixed{kind}", rng.bytes(512) + content)
    return paths


CLASSES = ["pyav.PyAVDecoder", "decord.DecordDecoder", "torchcodec.TorchCodecDecoder"]

TRY_ALL = """
import importlib, json, sys
from nlnet.errors import VideoError
module, name = sys.argv[1].rsplit(".", 1)
decoder = getattr(importlib.import_module(module), name)()
for path in json.loads(sys.stdin.read()):
    print(path, flush=True)
    try:
        with decoder.open(path) as reader:
            last = reader.info.num_frames - 1
            frames = reader.frames([0, last // 2, last])
            assert frames.shape == (3, reader.info.height, reader.info.width, 3), frames.shape
        print("frames", flush=True)
    except VideoError as error:
        assert error.path == path and path in str(error) and error.reason, error
        print("error", flush=True)
"""


@pytest.fixture(scope="module", params=CLASSES)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, counter_video: CounterVideo
) -> dict[str, str]:
    """What reading each bad file gives, in a process of its own that may neither crash nor hang."""
    DECODERS[request.param.split(".")[0]]()  # skips where its library is missing
    paths = damaged_files(tmp_path_factory.mktemp("damaged"), counter_video)
    with suppress(pytest.skip.Exception):  # without that folder, the damaged files alone
        odd_videos = request.getfixturevalue("test_videos") / "odd_videos"
        paths += sorted(str(path) for path in odd_videos.iterdir())
    command = [sys.executable, "-c", TRY_ALL, f"nlnet.data.decoders.{request.param}"]
    run = subprocess.run(command, input=json.dumps(paths), capture_output=True, text=True, timeout=120, check=False)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, f"at {lines[-1:]}: {run.stderr[-2000:]}"
    assert lines[::2] == paths
    names = ("/".join(Path(path).parts[-2:]) for path in paths)
    return {"decoder": request.param, **dict(zip(names, lines[1::2], strict=True))}


def found(outcomes: dict[str, str], folder: str, outcome: str) -> set[str]:
    """The names of the files of a folder that came out like that."""
    parts = [(*name.split("/"), value) for name, value in outcomes.items() if "/" in name]
    return {name for where, name, value in parts if where.startswith(folder) and value == outcome}


def test_damaged_files_give_frames_or_an_error(outcomes: dict[str, str]) -> None:
    useless = {f"{name}.mp4" for name in ("empty", "page", "random", "playlist", "folder", "missing", "sound")}
    assert useless <= found(outcomes, "damaged", "error")
    if outcomes["decoder"] == "pyav.PyAVDecoder":
        recovered = {"half.mkv", "half.ts", "half.webm", "hole.mp4", "hole.mkv", "hole.avi", "hole.ts", "prefixed.ts"}
        assert recovered <= found(outcomes, "damaged", "frames")


def test_odd_videos_give_frames_or_an_error(outcomes: dict[str, str], test_videos: Path) -> None:
    unreadable = {"empty.mp4", "text.mp4", "truncated.mp4"}
    # A damaged packet; no duration in the header. torchcodec says what it cannot do of its own.
    beyond = {"decord.DecordDecoder": {"broken_packets.mp4", "no_duration_vp9.webm"}}
    if outcomes["decoder"] == "torchcodec.TorchCodecDecoder":
        assert unreadable <= found(outcomes, "odd_videos", "error")
        return
    expected = unreadable | beyond.get(outcomes["decoder"], set())
    assert found(outcomes, "odd_videos", "error") == expected
    assert len(found(outcomes, "odd_videos", "frames")) == 10 - len(expected)


@pytest.mark.parametrize("encoding", ["mp4, short groups", "mkv", "avi, h264 with B-frames"])
def test_damaged_packets_are_left_out(encoding: str, tmp_path: Path, counter_video: CounterVideo) -> None:
    """Frames that do not decode do not count, and the last one stands for those missing at the end."""
    source = Path(counter_video(ENCODINGS[encoding], 83))
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[16:18] + packets[40:44] + packets[64:66]:
        start = content.index(bytes(packet))
        content[start : start + packet.size] = b"\xff" * packet.size
    path = tmp_path / source.name
    path.write_bytes(content)
    with av.open(str(path)) as container:
        expected = []
        for packet in container.demux(video=0):
            try:
                expected += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    # A clip that runs into damage is decoded from the beginning: frame 60 is what the 61st frame to decode shows.
    for indices in ([0, 10], [15, 35], [60, 70]):
        with PyAVDecoder().open(str(path)) as reader:
            assert (reader.frames(indices) == np.stack([expected[index] for index in indices])).all()
    with PyAVDecoder().open(str(path)) as reader:
        num_frames = reader.info.num_frames
        frames = reader.frames(range(num_frames))
    assert 50 < len(expected) < num_frames == 83
    assert (frames[: len(expected)] == np.stack(expected)).all()
    assert (frames[len(expected) :] == expected[-1]).all()


def test_packets_of_streams_that_appear_later_are_passed_over(counter_video: CounterVideo) -> None:
    """PyAV raises IndexError for these, as damaged transport streams have them."""
    with PyAVReader(counter_video(PLAIN, 30)) as reader:
        packets = iter([1, 2, None, 3])

        class Container:
            def demux(self, stream: object) -> Iterator[int]:
                for packet in packets:
                    if packet is None:
                        raise IndexError("list index out of range")
                    yield packet

            def close(self) -> None:
                pass

        reader._container.close()
        reader._container = Container()
        assert list(reader._packets()) == [1, 2, 3]


def test_broken_packets_count_as_the_reference_decodes_them(test_videos: Path) -> None:
    path = str(test_videos / "odd_videos" / "broken_packets.mp4")
    with PyAVDecoder().open(path) as reader:
        assert reader.info.num_frames == 50
        last = reader.frames([48, 49])
    assert (last[0] == last[1]).all()
