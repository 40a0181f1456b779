"""Which frames and which videos: pure functions of numbers, and random numbers that depend on a key only."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def sample_generator(*key: int) -> np.random.Generator:
    """A random generator that is a function of ``key`` and of nothing else: (seed, number) -> generator.

    Whoever asks, in whatever process and order, draws the same numbers, so that workers, ranks and resuming
    change nothing. Keys of different lengths never meet: SeedSequence pads with zeros, so the length goes first.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((len(key), *key))))


def _window(start: int, num_frames: int, frames: int, stride: int) -> tuple[int, ...]:
    """Frames start, start+stride, ... of a video that repeats from its beginning (short videos loop)."""
    return tuple((start + k * stride) % num_frames for k in range(frames))


def _check_window(num_frames: int, frames: int, stride: int) -> None:
    if min(num_frames, frames, stride) < 1:
        raise ValueError(f"num_frames, frames and stride must be positive, not {num_frames}, {frames}, {stride}")


def random_clip(num_frames: int, *, frames: int, stride: int, generator: np.random.Generator) -> tuple[int, ...]:
    """A training clip: ``frames`` indices, ``stride`` apart, from a random start.

    The start is uniform over 0 .. num_frames - frames * stride inclusive, or 0 where the video is shorter, and the
    indices are taken modulo ``num_frames``. (The authors' clip op reserves ``frames * stride`` frames,
    that is ``stride - 1`` more than the last index needs; so do we.)
    """
    _check_window(num_frames, frames, stride)
    last_start = max(0, num_frames - frames * stride)
    return _window(int(generator.integers(last_start + 1)), num_frames, frames, stride)


def uniform_clips(num_frames: int, *, clips: int, frames: int, stride: int) -> list[tuple[int, ...]]:
    """Test clips: ``clips`` windows spread evenly over the video.

    With L = max(0, num_frames - frames * stride), the last start that fits, clip j of n starts at
    floor(j * L / (n - 1)): the first clip at the first frame, the last one at the end. A single clip is the centre
    one, at floor(L / 2). Short videos loop.
    """
    _check_window(num_frames, frames, stride)
    if clips < 1:
        raise ValueError(f"clips must be positive, not {clips}")
    last_start = max(0, num_frames - frames * stride)
    starts = [last_start // 2] if clips == 1 else [j * last_start // (clips - 1) for j in range(clips)]
    return [_window(start, num_frames, frames, stride) for start in starts]


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after scaling the shorter side to exactly ``short_side``; the longer one rounds down.

    In integers throughout: the authors' float32 ratio makes the short side one pixel too small for some sizes.
    """
    if min(height, width, short_side) < 1:
        raise ValueError(f"height, width and short_side must be positive, not {height}, {width}, {short_side}")
    if height <= width:
        return short_side, width * short_side // height
    return height * short_side // width, short_side


class Order:
    """The order of training: sample number -> video index, a fresh order in each epoch.

    Sample ``n`` belongs to epoch ``n // num_videos``. A pure function of (seed, sample number), for any thread: the
    orders of the last two epochs asked for are kept only for speed.

    Args:
        shuffle: an epoch is a random permutation: each video comes exactly once. False keeps the list's order.
        draw: makes another order of an epoch from its generator, ``num_videos`` indices: see ``nlnet.data.orders``.
    """

    def __init__(
        self,
        num_videos: int,
        *,
        seed: int,
        shuffle: bool = True,
        draw: Callable[[np.random.Generator], npt.NDArray[np.int64]] | None = None,
    ) -> None:
        if num_videos < 1:
            raise ValueError(f"num_videos must be positive, not {num_videos}")
        self.num_videos = num_videos
        self.seed = seed
        self.shuffle = shuffle
        self.draw = draw
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def __call__(self, sample_number: int) -> int:
        """Index of the video of this sample."""
        epoch, position = divmod(sample_number, self.num_videos)
        if not self.shuffle:
            return position
        indices = self._epochs.get(epoch)
        if indices is None:
            # The third number sets these keys apart from those of the samples, (seed, sample number).
            generator = sample_generator(self.seed, epoch, 0)
            indices = generator.permutation(self.num_videos) if self.draw is None else self.draw(generator)
            self._epochs = dict([*self._epochs.items()][-1:]) | {epoch: indices}
        return int(indices[position])

    def __getstate__(self) -> dict[str, object]:
        """Without the indices: a worker makes its own."""
        return {**self.__dict__, "_epochs": {}}
