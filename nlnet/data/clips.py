"""Videos as data sets: a training sample is a pure function of its number, a test sample of its video.

Axes: T time, H height, W width, C channels (red, green, blue), all uint8 until the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nlnet.data.annotations import Label, Video, VideoList
from nlnet.data.decoders import Decoder, VideoInfo
from nlnet.data.orders import EpochOrder, Shuffled
from nlnet.data.pixels import Change, NoChanges, Pixels, changed
from nlnet.data.sampling import Order, sample_generator
from nlnet.data.transforms import EvalViews, TrainView, View
from nlnet.errors import ConfigError, DataError, VideoError

MAX_REPLACEMENTS = 20


@dataclass(frozen=True)
class TrainSample:
    """One training clip."""

    clip: Tensor  # uint8 [T, H, W, C]
    label: Label
    index: int  # of the video, in the list
    bad: tuple[tuple[int, str], ...]  # videos that could not be decoded and that this one replaces: index, reason
    number: int  # of the sample
    changes: tuple[Change, ...] = ()  # of its pixels that the device that trains is to make


@dataclass(frozen=True)
class EvalSample:
    """One test video."""

    clips: list[Tensor]  # one uint8 [T, H, W, C] per view; none where the video cannot be decoded
    label: Label  # of the whole video
    index: int
    error: str | None  # why it could not be decoded


class TrainClips(Dataset[TrainSample]):
    """Training clips by sample number, without end: number -> TrainSample.

    The video comes from ``order``, the view and the changes of its pixels from the sample's own generator. A video
    that cannot be decoded is replaced by another one, drawn by a generator of the sample too, and reported in ``bad``:
    the one place where training forgives a bad file. After MAX_REPLACEMENTS of them in one sample it is the data set
    that is bad: DataError.

    Args:
        order: which videos an epoch has, of ``nlnet.data.orders``.
        pixels: changes of the pixels, of ``nlnet.data.pixels``.
        on_device: whether the changes are left to the device that trains; else they are made here.
        repeats: samples in a row that are of one video, each with its own view: repeated augmentation
            (arXiv 1901.09335). Asked for together they are decoded together.
    """

    def __init__(
        self,
        videos: VideoList,
        *,
        decoder: Decoder,
        view: TrainView,
        seed: int,
        order: EpochOrder | None = None,
        pixels: Pixels | None = None,
        on_device: bool = False,
        repeats: int = 1,
    ) -> None:
        if repeats < 1:
            raise ConfigError(f"data.repeats must be at least 1, not {repeats}")
        self.videos = videos
        self.decoder = decoder
        self.view = view
        self.seed = seed
        self.order = Order(len(videos), seed=seed, draw=partial(order or Shuffled(), videos))
        self.pixels = pixels or NoChanges()
        self.on_device = on_device
        self.repeats = repeats

    @property
    def samples_per_epoch(self) -> int:
        """An epoch is a pass over the list, with ``repeats`` samples of each video."""
        return len(self.videos) * self.repeats

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """[T, H, W, C] of a clip: a view's, of whatever video."""
        view = self.view(VideoInfo(10_000, 1000, 1000, 25.0), np.random.default_rng(0))
        return len(view.indices), *view.size, 3

    def path_of(self, sample_number: int) -> str:
        """The file of the video that this sample is of, or would be."""
        return self.videos.videos[self.order(sample_number // self.repeats)].path

    def __getitem__(self, sample_number: int) -> TrainSample:
        bad: dict[int, str] = {}
        substitutes: np.random.Generator | None = None
        index = self.order(sample_number // self.repeats)
        while True:
            try:
                return self._read(index, [sample_number], tuple(bad.items()))[0]
            except VideoError as error:
                bad[index] = error.reason
            if len(bad) >= min(MAX_REPLACEMENTS, len(self.videos)):
                raise DataError(
                    f"{self.videos.source}: {len(bad)} videos one after the other cannot be decoded, the last one "
                    f"{self.videos.videos[index].path}: {bad[index]}; check data.root and the files"
                )
            # The third number sets this key apart from those of the samples and of the epochs' orders.
            substitutes = substitutes or sample_generator(self.seed, sample_number, 1)
            while index in bad:
                index = int(substitutes.integers(len(self.videos)))

    def __getitems__(self, sample_numbers: Sequence[int]) -> list[TrainSample]:
        """Several samples, as one by one; those in a row that are of one video open and decode it once."""
        samples: list[TrainSample] = []
        for numbers in self.of_one_video(sample_numbers):
            try:
                samples += self._read(self.order(numbers[0] // self.repeats), numbers, ())
            except VideoError:
                # Perhaps one of the views only: what becomes of a sample may depend on no other.
                samples += [self[number] for number in numbers]
        return samples

    def of_one_video(self, sample_numbers: Sequence[int]) -> list[list[int]]:
        """The samples, cut into those in a row that are of one video."""
        return [list(numbers) for _, numbers in groupby(sample_numbers, key=lambda number: number // self.repeats)]

    def _read(self, index: int, sample_numbers: list[int], bad: tuple[tuple[int, str], ...]) -> list[TrainSample]:
        """These samples, of the video ``index``."""
        video = self.videos.videos[index]
        generators = [sample_generator(self.seed, number) for number in sample_numbers]
        with self.decoder.open(video.path) as reader:
            views = [self.view(reader.info, generator) for generator in generators]
            clips = reader.read_all(views) if len(views) > 1 else [reader.read(views[0])]
        samples = []
        for number, view, clip, generator in zip(sample_numbers, views, clips, generators, strict=True):
            changes = self.pixels(view.size, generator)
            now, later = ([], changes) if self.on_device else (changes, [])
            label = _label_of(video, view, reader.info)
            pixels = changed(torch.from_numpy(clip), now)
            samples.append(TrainSample(pixels, label, index, bad, number, tuple(later)))
        return samples


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

    The label of the whole video where nothing is timed, or the file tells no times.
    """
    start, end = info.seconds(min(view.indices)), info.seconds(max(view.indices) + 1)
    return video.label if start is None or end is None else video.label_between(start, end)
