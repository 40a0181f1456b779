"""What a loader is compared with: decoding alone, and plain restatements of two pipelines in use.

Each is a data set, sample number -> uint8 [T, h, w, 3] (decoding alone: the number of frames decoded), with the same
draws: a window of frames, a short side, a square, mirrored or not.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import av
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from nlnet.data.decoders import VideoInfo
from nlnet.data.decoders.pyav import PyAVReader
from nlnet.data.decoders.pyav_index import VideoIndex
from nlnet.data.sampling import sample_generator
from nlnet.data.transforms import TrainView, View


@dataclass(frozen=True)
class Clips:
    """Which videos, and how views of them are drawn."""

    paths: Sequence[str]
    view: TrainView
    seed: int = 0

    def path(self, number: int) -> str:
        return self.paths[number % len(self.paths)]

    def draw(self, number: int, info: VideoInfo) -> View:
        return self.view(info, sample_generator(self.seed, number))


class DecodingAlone(Dataset[int]):
    """From the key frame before the first frame wanted to the last one, one thread, and nothing else.

    Args:
        drop: leave out, in the decoder, the frames that no other needs and the clip has not.
    """

    def __init__(self, clips: Clips, *, drop: bool) -> None:
        self.clips = clips
        self.drop = drop
        self._tables: dict[str, tuple[VideoIndex, VideoInfo]] = {}
        for path in clips.paths:
            with PyAVReader(path) as reader:
                self._tables[path] = reader.index, reader.info

    def __getitem__(self, number: int) -> int:
        path = self.clips.path(number)
        index, info = self._tables[path]
        wanted = {int(index.times[frame]) for frame in self.clips.draw(number, info).indices}
        return _decode(path, wanted, int(index.keys[bisect_right(index.keys, min(wanted)) - 1]), drop=self.drop)


def _decode(path: str, wanted: set[int], start: int, *, drop: bool) -> int:
    """Decode from the key frame at ``start`` to the last of the times wanted -> frames decoded."""
    last = max(wanted)
    decoded = 0
    with av.open(path) as container:
        stream: Any = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(start, stream=stream)
        for packet in container.demux(stream):
            if drop:
                stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            for frame in stream.codec_context.decode(packet):
                decoded += 1
                if frame.pts == last:
                    return decoded
    return decoded


class DecordPipeline(Dataset[Tensor]):
    """As MMAction2's recipes read clips: whole frames by decord, resized, cropped, mirrored; bytes.

    (mmaction/datasets/transforms: DecordInit, DecordDecode, Resize, RandomCrop, Flip; resized by torch's antialiased
    kernel for bytes in place of OpenCV's.)
    """

    def __init__(self, clips: Clips) -> None:
        self.clips = clips
        self.decord = import_module("decord")

    def __getitem__(self, number: int) -> Tensor:
        reader = self.decord.VideoReader(self.clips.path(number), num_threads=1)
        height, width, _ = reader[0].shape
        view = self.clips.draw(number, VideoInfo(len(reader), height, width, 0.0))
        frames = torch.from_numpy(reader.get_batch(list(view.indices)).asnumpy()).permute(0, 3, 1, 2)
        edge = view.size[0]
        scale = edge / view.box[2]
        top, left = int(view.box[0] * scale), int(view.box[1] * scale)
        frames = _resize(frames, (round(height * scale), round(width * scale)))[
            ..., top : top + edge, left : left + edge
        ]
        return _shown(frames, view)


class TorchCodecPipeline(Dataset[Tensor]):
    """torchcodec's frames, cropped before they are resized, mirrored; bytes."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips
        self.decoder = import_module("torchcodec.decoders").VideoDecoder

    def __getitem__(self, number: int) -> Tensor:
        decoder = self.decoder(self.clips.path(number), num_ffmpeg_threads=1)
        facts = decoder.metadata
        view = self.clips.draw(number, VideoInfo(len(decoder), facts.height, facts.width, 0.0))
        top, left, height, width = view.box
        frames = decoder.get_frames_at(list(view.indices)).data
        return _shown(_resize(frames[..., top : top + height, left : left + width], view.size), view)


def _resize(frames_TCHW: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(frames_TCHW.shape[2:]) == tuple(size):
        return frames_TCHW
    return F.interpolate(frames_TCHW, size=size, mode="bilinear", antialias=True)


def _shown(frames_TCHW: Tensor, view: View) -> Tensor:
    return (frames_TCHW.flip(3) if view.flip else frames_TCHW).permute(0, 2, 3, 1).contiguous()
