"""Videos as data sets: a training sample is a pure function of its number, a test sample of its video.

Axes: T time, H height, W width, C channels (red, green, blue), all uint8 until the device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nlnet.data.annotations import Label, Video, VideoList
from nlnet.data.decoders import Decoder, VideoInfo
from nlnet.data.sampling import Order, sample_generator
from nlnet.data.transforms import EvalViews, TrainView, View
from nlnet.errors import DataError, VideoError

MAX_REPLACEMENTS = 20


@dataclass(frozen=True)
class TrainSample:
    """One training clip."""

    clip: Tensor  # uint8 [T, H, W, C]
    label: Label
    index: int  # of the video, in the list
    bad: tuple[tuple[int, str], ...]  # videos that could not be decoded and that this one replaces: index, reason


@dataclass(frozen=True)
class EvalSample:
    """One test video."""

    clips: list[Tensor]  # one uint8 [T, H, W, C] per view; none where the video cannot be decoded
    label: Label  # of the whole video
    index: int
    error: str | None  # why it could not be decoded


class TrainClips(Dataset[TrainSample]):
    """Training clips by sample number, without end: number -> TrainSample.

    The video comes from ``Order``, the view from the sample's own generator. A video that cannot be decoded is
    replaced by another one that the same generator draws, and reported in ``bad``: the one place where training
    forgives a bad file. After MAX_REPLACEMENTS of them in one sample it is the data set that is bad: DataError.
    """

    def __init__(self, videos: VideoList, *, decoder: Decoder, view: TrainView, seed: int) -> None:
        self.videos = videos
        self.decoder = decoder
        self.view = view
        self.seed = seed
        self.order = Order(len(videos), seed=seed)

    def __getitem__(self, sample_number: int) -> TrainSample:
        generator = sample_generator(self.seed, sample_number)
        index = self.order(sample_number)
        bad: dict[int, str] = {}
        while True:
            video = self.videos.videos[index]
            try:
                with self.decoder.open(video.path) as reader:
                    view = self.view(reader.info, generator)
                    clip = reader.read(view)
                label = _label_of(video, view, reader.info)
                return TrainSample(torch.from_numpy(clip), label, index, tuple(bad.items()))
            except VideoError as error:
                bad[index] = error.reason
            if len(bad) >= min(MAX_REPLACEMENTS, len(self.videos)):
                raise DataError(
                    f"{self.videos.source}: {len(bad)} videos one after the other cannot be decoded, the last one "
                    f"{video.path}: {bad[index]}; check data.root and the files"
                )
            while index in bad:
                index = int(generator.integers(len(self.videos)))


class EvalClips(Dataset[EvalSample]):
    """All views of each test video: index -> EvalSample. A bad video is never replaced, only said to be bad."""

    def __init__(self, videos: VideoList, *, decoder: Decoder, views: EvalViews) -> None:
        self.videos = videos
        self.decoder = decoder
        self.views = views

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> EvalSample:
        video = self.videos.videos[index]
        try:
            with self.decoder.open(video.path) as reader:
                clips = [torch.from_numpy(clip) for clip in reader.read_all(self.views(reader.info))]
        except VideoError as error:
            return EvalSample([], video.label, index, error.reason)
        return EvalSample(clips, video.label, index, None)


def _label_of(video: Video, view: View, info: VideoInfo) -> Label:
    """What a clip shows: of timed actions those that touch its time, from its first frame to the end of its last.

    The label of the whole video where nothing is timed, or the file does not say its frame rate.
    """
    if info.frames_per_second <= 0:
        return video.label
    first, last = min(view.indices), max(view.indices)
    return video.label_between(first / info.frames_per_second, (last + 1) / info.frames_per_second)
