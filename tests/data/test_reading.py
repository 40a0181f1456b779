"""PyAV decodes and converts what a clip needs, no more, and what it gives is what decoding everything would give."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter

from nlnet.data.crops import source_box
from nlnet.data.decoders import pyav_pixels
from nlnet.data.decoders.pyav import PyAVDecoder, PyAVReader
from nlnet.data.decoders.pyav_index import IndexCache
from nlnet.data.sampling import resized_shape
from nlnet.data.transforms import View
from tests.data.conftest import ENCODINGS, PLAIN, Encoding, counter_frame, write_video
from tests.data.test_decoders import sequential_frames

CounterVideo = Callable[[Encoding, int], str]


def natural_frames(height: int, width: int, *, num_frames: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Coloured texture that moves: energy falls with frequency, as in footage."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height + 32)[:, None], np.fft.rfftfreq(width + 32)[None])
    planes = []
    for _ in range(3):
        noise = rng.standard_normal((*frequency.shape, 2)) @ [1, 1j] / np.maximum(frequency, 1 / width) ** 1.6
        plane = np.fft.irfft2(noise, s=(height + 32, width + 32))
        planes.append(plane / plane.std())
    common, *colours = planes
    picture = 120 + 40 * common[..., None] + 12 * np.stack([*colours, -colours[0]], axis=-1)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    return [picture[k : k + height, 2 * k : 2 * k + width] for k in range(num_frames)]


@pytest.mark.parametrize("size", [(256, 340), (960, 540)])
def test_pixels_are_those_of_resizing_and_then_cropping(
    size: tuple[int, int], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The recipe in its own order: whole frames to RGB, resized to the short side, then cropped.

    Most of the difference comes from boxes being in whole pixels of the source: up to half a pixel of it.
    """
    crop = 224
    path = write_video(tmp_path / "a.mp4", natural_frames(*size), Encoding("a.mp4", options={"crf": "18"}))
    whole = torch.from_numpy(np.stack(sequential_frames(path))).permute(0, 3, 1, 2)
    rng = np.random.default_rng(0)
    differences = []
    for number in range(12):
        scaled = resized_shape(*size, int(rng.integers(256, 320, endpoint=True)))
        top, left = (int(rng.integers(edge - crop, endpoint=True)) for edge in scaled)
        frames = F.interpolate(whole, size=scaled, mode="bilinear", antialias=True)
        expected = frames[:, :, top : top + crop, left : left + crop].permute(0, 2, 3, 1).numpy()
        box = source_box((top, left, crop, crop), scaled, size)
        with PyAVDecoder().open(path) as reader:
            clip = reader.read(View(tuple(range(len(expected))), box, (crop, crop), flip=bool(number % 2)))
        expected = expected[:, :, ::-1] if number % 2 else expected
        differences.append(np.abs(clip.astype(int) - expected).mean())
    record_property("mean difference in grey levels", float(np.mean(differences)))
    print(f"{size} -> {crop}: {np.mean(differences):.2f} grey levels on average, at most {max(differences):.2f}")
    assert np.mean(differences) <= 2


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("box", [(7, 11, 24, 31), (8, 12, 25, 30), (0, 1, 48, 63), (47, 63, 1, 1)])
def test_a_box_is_converted_as_in_the_whole_frame(pixels: str, box: tuple[int, int, int, int], tmp_path: Path) -> None:
    """Also where it begins within a block of pixels that share their colour.

    Bit for bit, but for 10 bits, whose dither depends on the place, and for odd numbers of rows in 4:2:2, for which
    swscale has another function, of other rounding.
    """
    frames = natural_frames(48, 64, num_frames=3)
    path = write_video(tmp_path / "a.mkv", frames, Encoding("a.mkv", options={"qp": "4"}, pixels=pixels))
    top, left, height, width = box
    with PyAVDecoder().open(path) as reader:
        assert reader._stream.codec_context.format.name == pixels
        whole = reader.frames([2, 0])
        clip = reader.read(View((2, 0), box, (height, width)))
        mirrored = reader.read(View((2, 0), box, (height, width), flip=True))
    difference = np.abs(clip.astype(int) - whole[:, top : top + height, left : left + width])
    assert difference.max() <= {"yuv422p": 6, "yuv420p10le": 6}.get(pixels, 0)
    assert (mirrored == clip[:, :, ::-1]).all()


def test_no_whole_frame_of_a_large_video_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1080p: at most the pixels that come out, for training clips and for all views of a test."""
    converted: list[int] = []

    class Recording:
        def __init__(self) -> None:
            self.reformatter = VideoReformatter()

        def reformat(self, frame: object, **options: object) -> object:
            result = self.reformatter.reformat(frame, **options)
            converted.append(result.height * result.width)
            return result

    frames = natural_frames(1080, 1920, num_frames=2)
    path = write_video(tmp_path / "a.mp4", frames, Encoding("a.mp4", options={"preset": "ultrafast"}))
    monkeypatch.setattr(pyav_pixels, "VideoReformatter", Recording)
    with PyAVDecoder().open(path) as reader:
        reader.read(View((0, 1), (100, 300, 800, 800), (224, 224), flip=True))
        views = [View((0, 1), (0, left, 1080, 1080), (256, 256)) for left in (0, 420, 840)]
        reader.read_all([*views, View((0, 1), (0, 0, 1080, 1920), (256, 455))])
    assert converted == [224 * 224] * 2 + ([256 * 256] * 3 + [256 * 455]) * 2
    with PyAVDecoder().open(path) as reader:  # a whole frame would have been seen
        reader.frames([0])
    assert converted[-1] == 1080 * 1920


@pytest.mark.parametrize("encoding", ["mp4, B-frames, one key frame", "mp4, open groups", "mp4, mpeg4", "mp4, hevc"])
def test_leaving_out_frames_that_no_other_needs_changes_nothing(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [np.roll(natural_frames(64, 96, num_frames=1)[0], k, 1) for k in range(60)]
    path = write_video(tmp_path / "a.mp4", frames, ENCODINGS[encoding])
    expected = np.stack(sequential_frames(path))
    monkeypatch.delattr(PyAVReader, "_in_order")  # nothing falls back to decoding everything
    rng = np.random.default_rng(0)
    decoder = PyAVDecoder()
    for _ in range(25):
        start, stride = int(rng.integers(60)), int(rng.integers(1, 9))
        indices = list(range(start, 60, stride))[:8]
        with decoder.open(path) as reader:
            assert (reader.frames(indices) == expected[indices]).all()
            assert (reader.frames([start]) == expected[start]).all()  # and again, after the decoder was emptied


class TestIndexCache:
    def test_a_file_is_scanned_once_until_it_changes(
        self, counter_video: CounterVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scanned: list[str] = []
        scan = PyAVReader._scan
        monkeypatch.setattr(PyAVReader, "_scan", lambda reader: scanned.append(reader.path) or scan(reader))
        path = tmp_path / "a.mp4"
        path.write_bytes(Path(counter_video(PLAIN, 30)).read_bytes())
        folder = str(tmp_path / "tables")
        decoder = PyAVDecoder(index_folder=folder)
        for reading in (decoder, decoder, pickle.loads(pickle.dumps(decoder)), PyAVDecoder(index_folder=folder)):
            with reading.open(str(path)) as reader:
                assert reader.info.num_frames == 30
                assert reader.info.times is not None
                assert np.allclose(reader.info.times, np.arange(30) / 25)
        assert scanned == [str(path)]
        path.write_bytes(Path(counter_video(PLAIN, 83)).read_bytes())
        for reading in (decoder, PyAVDecoder(index_folder=folder)):
            with reading.open(str(path)) as reader:
                assert reader.info.num_frames == 83
        assert len(scanned) == 2
        for file in Path(folder).glob("*/*.npz"):
            file.write_bytes(file.read_bytes()[:100])
        with PyAVDecoder(index_folder=folder).open(str(path)) as reader:
            assert reader.info.num_frames == 83
        assert len(scanned) == 3

    def test_the_memory_is_bounded(self, counter_video: CounterVideo, tmp_path: Path) -> None:
        with PyAVReader(counter_video(PLAIN, 30)) as reader:
            index = reader.index
        paths = [write_video(tmp_path / f"{k}.mp4", [counter_frame(k)], PLAIN) for k in range(4)]
        cache = IndexCache(max_bytes=2 * index.num_bytes)
        for k, path in enumerate(paths):
            cache.put(path, replace(index, num_frames=k))
            cache.put(path, replace(index, num_frames=k + 10))
        assert [kept and kept.num_frames for kept in map(cache.get, paths)] == [None, None, 12, 13]
        assert len(pickle.dumps(cache)) < 200
