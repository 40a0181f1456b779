"""Which samples a step has: the same for any number of workers and ranks, and after resuming."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nlnet.data import loader as loader_module
from nlnet.data.annotations import Video, VideoList
from nlnet.data.clips import EvalClips, TrainClips
from nlnet.data.crops import Three
from nlnet.data.decoders import Decoder, Frames, VideoInfo, VideoReader
from nlnet.data.loader import Readers, TrainBatch, change_pixels, eval_loader, targets, train_loader
from nlnet.data.orders import Balanced
from nlnet.data.pixels import ColourJitter, InTurn, RandAugment, RandomErasing
from nlnet.data.placement import Ends
from nlnet.data.threads import in_order
from nlnet.data.transforms import EvalViews, TrainView
from nlnet.errors import ConfigError, VideoError


class NumberReader(VideoReader):
    """A "video" in which every pixel of frame i is (video number, i, row)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.info = VideoInfo(9, 12, 16, 25.0)

    def _decode(self, indices: list[int]) -> Frames:
        frames = np.zeros((len(indices), 12, 16, 3), np.uint8)
        frames[..., 0] = int(self.path)
        frames[..., 1] = np.array(indices)[:, None, None]
        frames[..., 2] = np.arange(12)[:, None]
        return frames

    def close(self) -> None:
        pass


class NumberDecoder(Decoder):
    """Opens NumberReaders; every seventh video is bad."""

    def open(self, path: str) -> VideoReader:
        return self._open(path)

    def _open(self, path: str) -> VideoReader:
        if int(path) % 7 == 3:
            raise VideoError(path, "bad by design")
        return NumberReader(path)


def video_list(num_videos: int) -> VideoList:
    return VideoList(tuple(Video(str(k), k % 5, str(k)) for k in range(num_videos)), tuple("abcde"), "numbers")


def train_clips(num_videos: int = 20) -> TrainClips:
    view = TrainView(frames=4, stride=2, short_side=(12, 14), crop=10)
    return TrainClips(video_list(num_videos), decoder=NumberDecoder(), view=view, seed=0)


def eval_clips(num_videos: int) -> EvalClips:
    views = EvalViews(frames=2, stride=1, clips=2, placement=Ends(), crops=Three(12, 10))
    return EvalClips(video_list(num_videos), decoder=NumberDecoder(), views=views)


def set_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(loader_module, "rank", lambda: rank)
    monkeypatch.setattr(loader_module, "world_size", lambda: world)


def assert_equal_batches(left: list[TrainBatch], right: list[TrainBatch]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.clips, other.clips)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.indices, other.indices)
        assert one.bad == other.bad


def test_batches_are_the_samples_of_their_step() -> None:
    clips = train_clips()
    batches = list(train_loader(clips, batch_size=8, start_step=0, steps=5))
    assert len(batches) == 5
    for step, batch in enumerate(batches):
        samples = [clips[number] for number in range(8 * step, 8 * step + 8)]
        assert batch.clips.shape == (8, 4, 10, 10, 3)
        assert batch.clips.dtype == torch.uint8
        assert batch.clips.is_contiguous()
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
        assert torch.equal(batch.clips, torch.stack([sample.clip for sample in samples]))
        assert batch.labels.tolist() == [sample.label for sample in samples]
        assert batch.indices.tolist() == [sample.index for sample in samples]
        assert batch.bad == [bad for sample in samples for bad in sample.bad]
        assert batch.clips[:, 0, 0, 0, 0].tolist() == batch.indices.tolist()  # the clip is of that video
    assert any(batch.bad for batch in batches)


def test_targets_of_several_labels_are_ones_at_the_labels() -> None:
    shown = targets([(0, 3), (), (4,)], num_classes=5)
    assert shown.dtype == torch.float32
    assert shown.tolist() == [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert targets([(), ()], num_classes=2).tolist() == [[0, 0], [0, 0]]
    assert targets([3, 1], num_classes=5).tolist() == [3, 1]
    assert targets([3, 1], num_classes=5).dtype == torch.int64


def test_batches_of_videos_with_several_labels() -> None:
    clips = train_clips()
    videos = tuple(replace(video, label=tuple(range(index % 4))) for index, video in enumerate(clips.videos.videos))
    clips.videos = replace(clips.videos, videos=videos)
    for batch in train_loader(clips, batch_size=8, start_step=0, steps=3, readers=Readers(1)):
        for index, row in zip(batch.indices.tolist(), batch.labels, strict=True):
            assert row.tolist() == [1.0] * (index % 4) + [0.0] * (5 - index % 4)


READERS = [Readers(2), Readers(1, start_method="spawn"), Readers(0, 1), Readers(0, 5), Readers(2, 3)]


@pytest.mark.parametrize("readers", READERS)
def test_processes_and_threads_change_nothing(readers: Readers) -> None:
    alone = list(train_loader(train_clips(), batch_size=6, start_step=0, steps=7))
    helped = train_loader(train_clips(), batch_size=6, start_step=0, steps=7, readers=readers)
    assert len(helped) == 7
    assert_equal_batches(list(helped), alone)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_memory_of_batches_is_used_again_but_never_while_somebody_has_it(start_method: str) -> None:
    expected = list(train_loader(train_clips(), batch_size=6, start_step=0, steps=30))
    loader = train_loader(train_clips(), batch_size=6, start_step=0, steps=30, readers=Readers(1, 1, start_method))
    addresses = set()
    kept: list[TrainBatch] = []  # a row of some, so that only a view holds their memory
    for number, batch in enumerate(loader):
        assert_equal_batches([batch], [expected[number]])
        addresses.add(batch.clips.data_ptr())
        if number in (0, 7, 8):
            kept.append(batch._replace(clips=batch.clips[2:4]))
        del batch
    assert len(addresses) < 10
    for batch, number in zip(kept, (0, 7, 8), strict=True):
        assert torch.equal(batch.clips, expected[number].clips[2:4])


def test_clips_of_another_size_than_foreseen_come_too(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(train_loader(train_clips(), batch_size=6, start_step=0, steps=5))
    monkeypatch.setattr(TrainClips, "clip_shape", (4, 9, 10, 3))
    assert_equal_batches(
        list(train_loader(train_clips(), batch_size=6, start_step=0, steps=5, readers=Readers(2))), expected
    )


@pytest.mark.parametrize("readers", [Readers(), Readers(2), Readers(0, 2)])
def test_starting_later_continues_exactly(readers: Readers) -> None:
    whole = list(train_loader(train_clips(), batch_size=4, accumulate=2, start_step=0, steps=9, readers=readers))
    for cut in (1, 4, 9):
        rest = list(train_loader(train_clips(), batch_size=4, accumulate=2, start_step=cut, steps=9, readers=readers))
        assert_equal_batches(whole[: 2 * cut] + rest, whole)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2), (12, 1)])
def test_a_step_has_the_same_samples_however_it_is_shared(
    world: int, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(train_loader(train_clips(), batch_size=12, start_step=2, steps=5))
    shares = []
    for rank in range(world):
        set_rank(monkeypatch, rank, world)
        shares.append(list(train_loader(train_clips(), batch_size=12, accumulate=accumulate, start_step=2, steps=5)))
        assert len(shares[-1]) == 3 * accumulate
    for step, expected in enumerate(whole):
        parts = [batch for share in shares for batch in share[step * accumulate : (step + 1) * accumulate]]
        assert {len(part.labels) for part in parts} == {12 // (world * accumulate)}
        assert torch.equal(torch.cat([part.clips for part in parts]), expected.clips)
        assert torch.equal(torch.cat([part.indices for part in parts]), expected.indices)
        assert [bad for part in parts for bad in part.bad] == expected.bad


def augmented_clips(*, on_device: bool = False) -> TrainClips:
    """Everything that is drawn for a sample at once: balanced classes, repeats, all changes of pixels."""
    return TrainClips(
        video_list(20),
        decoder=NumberDecoder(),
        view=TrainView(frames=4, stride=2, short_side=(12, 14), crop=10),
        seed=0,
        order=Balanced(),
        pixels=InTurn({"a": RandAugment(), "b": ColourJitter(), "c": RandomErasing(probability=0.5, fill="noise")}),
        on_device=on_device,
        repeats=2,
    )


@pytest.mark.parametrize(
    ("readers", "world"),
    [(Readers(1), 1), (Readers(2), 1), (Readers(), 2), (Readers(2), 2), (Readers(0, 3), 1), (Readers(1, 2), 2)],
)
@pytest.mark.parametrize("on_device", [False, True])
def test_augmented_samples_do_not_depend_on_workers_or_ranks(
    readers: Readers, world: int, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(train_loader(augmented_clips(), batch_size=12, start_step=0, steps=3))
    shares = []
    for rank in range(world):
        set_rank(monkeypatch, rank, world)
        clips = augmented_clips(on_device=on_device)
        shares.append(list(train_loader(clips, batch_size=12, start_step=0, steps=3, readers=readers)))
    for step, expected in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([change_pixels(part.clips, part) for part in parts]), expected.clips)
        assert torch.equal(torch.cat([part.labels for part in parts]), expected.labels)
        assert torch.cat([part.numbers for part in parts]).tolist() == list(range(12 * step, 12 * step + 12))
    plain = torch.cat([batch.clips for batch in shares[0]])
    changed_there = any(any(batch.changes) for batch in shares[0])
    assert changed_there == on_device
    assert len(plain.unique()) > 10


def test_making_an_iterator_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(train_loader(train_clips(), batch_size=4, start_step=0, steps=2))
    list(eval_loader(eval_clips(3), readers=Readers(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_rank(monkeypatch, 0, 4)
    with pytest.raises(ConfigError, match=r"batch_size=30 .* 4 x 2; set trainer.batch_size=24"):
        train_loader(train_clips(), batch_size=30, accumulate=2, start_step=0, steps=1)
    with pytest.raises(ConfigError, match="batch_size=4"):
        train_loader(train_clips(), batch_size=2, start_step=0, steps=1)
    for batch_size, accumulate in ((0, 1), (4, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            train_loader(train_clips(), batch_size=batch_size, accumulate=accumulate, start_step=0, steps=1)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("num_videos", [1, 7, 12])
def test_each_test_video_comes_exactly_once(world: int, num_videos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for rank in range(world):
        set_rank(monkeypatch, rank, world)
        shares = eval_loader(eval_clips(num_videos))
        samples = list(shares)
        assert len(samples) == len(shares)
        seen += samples
    assert sorted(sample.index for sample in seen) == list(range(num_videos))
    for sample in seen:
        assert sample.label == sample.index % 5
        assert (sample.error is None) == (sample.index % 7 != 3)
        assert len(sample.clips) == (0 if sample.error else 6)


@pytest.mark.parametrize("readers", READERS)
def test_test_samples_are_the_same_with_processes_and_threads(readers: Readers) -> None:
    alone = list(eval_loader(eval_clips(9)))
    helped = list(eval_loader(eval_clips(9), readers=readers))
    assert [(sample.index, sample.label, sample.error) for sample in helped] == [
        (sample.index, sample.label, sample.error) for sample in alone
    ]
    for one, other in zip(helped, alone, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one.clips, other.clips, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_pinned_batches_keep_their_form() -> None:
    expected = next(iter(train_loader(train_clips(), batch_size=4, start_step=0, steps=1))).clips
    for readers in (Readers(1), Readers(0, 2)):
        (batch,) = train_loader(train_clips(), batch_size=4, start_step=0, steps=1, readers=readers, pin_memory=True)
        assert isinstance(batch, TrainBatch)
        assert batch.clips.is_pinned()
        assert torch.equal(batch.clips, expected)


def test_negative_numbers_of_readers_are_refused() -> None:
    for numbers in ((-1, 0), (0, -2)):
        with pytest.raises(ConfigError, match="0 or more"):
            Readers(*numbers)


def test_threads_read_ahead_and_stop_when_nobody_wants_more() -> None:
    """No more than is in their hands after the consumer has gone, and errors come in their turn."""
    begun: list[int] = []

    def work(key: int) -> int:
        begun.append(key)
        if key == 5:
            raise ValueError("five")
        return -key

    results = in_order(work, range(1000), threads=2, ahead=4)
    assert [next(results) for _ in range(5)] == [0, -1, -2, -3, -4]
    with pytest.raises(ValueError, match="five"):
        next(results)
    assert len(begun) <= 9
    results = in_order(work, range(100, 1000), threads=2, ahead=4)
    assert next(results) == -100
    results.close()
    assert len(begun) <= 9 + 6
    assert list(in_order(work, range(6, 20), threads=3, ahead=30)) == [-key for key in range(6, 20)]
