"""Small videos whose frames are known: each frame of a counter video shows its number in black and white squares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

SQUARE = 16  # edge in pixels: large enough to survive any codec
COLUMNS, ROWS = 4, 3  # 12 bits: numbers up to 4095


def counter_frame(number: int) -> npt.NDArray[np.uint8]:
    """A frame that shows ``number`` as bits -> [ROWS * SQUARE, COLUMNS * SQUARE, 3]."""
    bits = np.array([number >> bit & 1 for bit in range(ROWS * COLUMNS)], np.uint8).reshape(ROWS, COLUMNS)
    return np.repeat(np.repeat(bits * 255, SQUARE, axis=0), SQUARE, axis=1)[:, :, None].repeat(3, axis=2)


def numbers_shown(frames: npt.NDArray[np.uint8]) -> list[int]:
    """The number that each frame shows: [T, H, W, 3] -> T numbers."""
    squares = frames.reshape(len(frames), ROWS, SQUARE, COLUMNS, SQUARE, 3).mean(axis=(2, 4, 5))
    bits = (squares > 127).reshape(len(frames), -1)
    return [sum(1 << bit for bit in np.flatnonzero(row)) for row in bits]


@dataclass(frozen=True)
class Encoding:
    """How a test video is written."""

    file: str
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)  # options of the codec
    muxer: dict[str, str] = field(default_factory=dict)  # options of the container
    pixels: str = "yuv420p"
    rotation: int = 0  # that the file asks for, in degrees counter-clockwise
    times: Callable[[int], int] = lambda number: number  # presentation time of a frame, in 1/25 s


# The containers and codecs in which seeking goes wrong in one library or another.
ENCODINGS = {
    "mp4, B-frames, one key frame": Encoding("a.mp4", options={"g": "250", "bf": "3"}),
    "mp4, short groups": Encoding("a.mp4", options={"g": "12", "bf": "2"}),
    "mp4, no B-frames": Encoding("a.mp4", options={"g": "20", "bf": "0"}),
    "mp4, open groups": Encoding("a.mp4", options={"g": "15", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "mp4, variable frame rate": Encoding("a.mp4", options={"g": "30"}, times=lambda n: n * (n + 3) // 2 + 5 * (n > 40)),
    "mp4, starts late": Encoding("a.mp4", options={"g": "30"}, times=lambda n: n + 50),
    "mp4, fragmented": Encoding("a.mp4", options={"g": "15"}, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "mp4, hevc": Encoding("a.mp4", "libx265", {"g": "30", "x265-params": "log-level=none"}),
    "mp4, mpeg4": Encoding("a.mp4", "mpeg4", {"g": "30", "bf": "2", "b": "2M"}),
    "mkv": Encoding("a.mkv", options={"g": "30"}),
    "webm, vp9": Encoding("a.webm", "libvpx-vp9", {"g": "40", "auto-alt-ref": "1", "cpu-used": "8"}),
    "webm, vp8": Encoding("a.webm", "libvpx", {"g": "40", "cpu-used": "8"}),
    "avi, mpeg4 with B-frames": Encoding("a.avi", "mpeg4", {"g": "30", "bf": "2", "b": "2M"}),
    "avi, h264 with B-frames": Encoding("a.avi", "libx264", {"g": "30", "bf": "2"}),
    "mpg, mpeg2": Encoding("a.mpg", "mpeg2video", {"g": "30", "bf": "2", "b": "2M"}),
    "ts": Encoding("a.ts", options={"g": "30", "bf": "2"}),
    "flv": Encoding("a.flv", options={"g": "30"}),
    "wmv": Encoding("a.wmv", "wmv2", {"g": "30", "b": "2M"}),
    "mp4, av1": Encoding("a.mp4", "libsvtav1", {"g": "30", "preset": "10"}),
    "mp4, mpeg2": Encoding("a.mp4", "mpeg2video", {"g": "15", "bf": "2", "b": "2M"}),
    "mkv, hevc": Encoding("a.mkv", "libx265", {"g": "20", "x265-params": "log-level=none:open-gop=1"}),
    "mkv, variable frame rate": Encoding("a.mkv", options={"g": "30"}, times=lambda n: n * (n + 3) // 2),
    "mkv, ffv1": Encoding("a.mkv", "ffv1"),
    "webm, vp8 with hidden frames": Encoding(
        "a.webm", "libvpx", {"g": "40", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "4"}
    ),
    "avi, mjpeg": Encoding("a.avi", "mjpeg", {"q:v": "3"}, pixels="yuvj420p"),
    "mov, mjpeg": Encoding("a.mov", "mjpeg", {"q:v": "3"}, pixels="yuvj420p"),
    "mov, prores": Encoding("a.mov", "prores_ks", pixels="yuv422p10le"),
    "ts, mpeg2": Encoding("a.ts", "mpeg2video", {"g": "15", "bf": "2", "b": "2M"}),
    "gif": Encoding("a.gif", "gif", pixels="rgb8"),
}  # fmt: skip
BEFORE_ZERO = Encoding("a.mp4", options={"g": "30"}, times=lambda n: n - 10)
PLAIN = ENCODINGS["mp4, short groups"]


def write_video(path: Path, frames: Sequence[npt.NDArray[np.uint8]], encoding: Encoding) -> str:
    """Encode frames [H, W, 3] to a file."""
    with av.open(str(path), "w", options=encoding.muxer) as container:
        stream = container.add_stream(encoding.codec, rate=25, options=encoding.options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = encoding.pixels
        if encoding.rotation:
            stream.set_display_rotation(encoding.rotation)
        stream.codec_context.time_base = Fraction(1, 25)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = encoding.times(number)
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.fixture(scope="session")
def counter_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Encoding, int], str]:
    """(encoding, number of frames) -> path of a counter video, written once."""
    written: dict[tuple[int, int], str] = {}

    def write(encoding: Encoding, num_frames: int) -> str:
        key = (id(encoding), num_frames)
        if key not in written:
            folder = tmp_path_factory.mktemp("counter")
            written[key] = write_video(folder / encoding.file, list(map(counter_frame, range(num_frames))), encoding)
        return written[key]

    return write
