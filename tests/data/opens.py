"""``python -m tests.data.opens 5000``: opens sound and damaged videos that often and says what that leaves behind."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.decoders.time_limit import LimitedDecoder
from nlnet.errors import VideoError
from tests.data.conftest import ENCODINGS, Encoding, counter_frame, write_video
from tests.data.test_bad_videos import damaged_files


def growth(paths: Sequence[str], *, opens: int, warm_up: int) -> tuple[float, int]:
    """Reads some frames of one file after the other -> bytes of memory that each open added, open files added.

    The slope of a straight line through the resident memory after each open, those of the warm-up left out.
    """
    decoder = LimitedDecoder(PyAVDecoder(), 60)
    memory = []
    descriptors = 0
    for number in range(warm_up + opens):
        try:
            with decoder.open(paths[number % len(paths)]) as reader:
                last = reader.info.num_frames - 1
                reader.frames([0, last // 2, last])
        except VideoError:
            pass
        if number == warm_up:
            descriptors = len(os.listdir("/proc/self/fd"))
        if number >= warm_up:
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    slope = float(np.polyfit(np.arange(len(memory)), memory, 1)[0])
    return slope, len(os.listdir("/proc/self/fd")) - descriptors


def main(opens: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written: dict[int, str] = {}

        def counter_video(encoding: Encoding, num_frames: int) -> str:
            place = Path(folder) / str(id(encoding))
            place.mkdir(exist_ok=True)
            if id(encoding) not in written:
                frames = [counter_frame(number) for number in range(num_frames)]
                written[id(encoding)] = write_video(place / encoding.file, frames, encoding)
            return written[id(encoding)]

        damaged = Path(folder) / "damaged"
        damaged.mkdir()
        files = [*damaged_files(damaged, counter_video), counter_video(ENCODINGS["mp4, open groups"], 83)]
        slope, descriptors = growth(files, opens=opens, warm_up=300)
    print(f"{opens} opens of {len(files)} files: {slope:.0f} bytes of memory each, {descriptors} files still open")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
