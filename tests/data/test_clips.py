"""Samples are functions of their number; bad videos are replaced in training, reported in a test, never hidden."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlnet.data.annotations import Action, Video, VideoList, read_list
from nlnet.data.clips import MAX_REPLACEMENTS, EvalClips, TrainClips
from nlnet.data.crops import AuthorsThree, Centre, Flipped, Three, WholeFrame
from nlnet.data.decoders import VideoInfo, VideoReader
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.pixels import ColourJitter, InTurn, RandAugment, RandomErasing, changed
from nlnet.data.placement import Authors, Ends
from nlnet.data.sampling import Order, sample_generator
from nlnet.data.transforms import EvalViews, TrainView
from nlnet.errors import ConfigError, DataError
from tests.data.conftest import Encoding, counter_frame, numbers_shown, write_video

NUM_VIDEOS, NUM_FRAMES = 6, 20
VIEW = TrainView(frames=4, stride=3, short_side=(48, 56), crop=48)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    """Video k shows the numbers 100 k, 100 k + 1, ...; its label is k."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(NUM_VIDEOS):
        frames = [counter_frame(100 * k + number) for number in range(NUM_FRAMES)]
        write_video(folder / f"{k}.mp4", frames, Encoding(f"{k}.mp4"))
    (folder / "list.txt").write_text("".join(f"{k}.mp4 {k}\n" for k in range(NUM_VIDEOS)))
    return read_list(str(folder / "list.txt"), root=str(folder))


def with_bad(videos: VideoList, folder: Path, *bad: int) -> VideoList:
    """The same list, with some of its videos replaced by a text file."""
    (folder / "bad.mp4").write_text("<html>")
    changed = [
        Video(str(folder / "bad.mp4"), video.label, f"bad{k}") if k in bad else video
        for k, video in enumerate(videos.videos)
    ]
    return VideoList(tuple(changed), videos.classes, "bad list")


def train_clips(videos: VideoList, seed: int = 0) -> TrainClips:
    return TrainClips(videos, decoder=PyAVDecoder(), view=VIEW, seed=seed)


def test_a_training_sample_is_what_order_and_view_say(videos: VideoList) -> None:
    clips, order = train_clips(videos), Order(NUM_VIDEOS, seed=0)
    for number in (0, 5, 6, 17, 1000):
        sample = clips[number]
        index = order(number)
        assert (sample.index, sample.label, sample.bad) == (index, index, ())
        assert sample.clip.shape == (4, 48, 48, 3)
        assert sample.clip.dtype == torch.uint8
        with PyAVDecoder().open(videos.videos[index].path) as reader:
            expected = reader.read(VIEW(reader.info, sample_generator(0, number)))
        assert (sample.clip.numpy() == expected).all()


def test_a_training_clip_has_the_actions_of_its_seconds_and_a_test_all(videos: VideoList) -> None:
    """At 25 frames per second: action 0 is seen in frames 0 to 5, action 1 in frames 9 to 14, action 2 throughout."""
    actions = (Action(0, 0.0, 0.23), Action(1, 0.37, 0.59), Action(2, 0.0, 0.8))
    timed = replace(videos, videos=tuple(replace(v, label=(0, 1, 2), actions=actions) for v in videos.videos))
    seen = {0: set(range(6)), 1: set(range(9, 15)), 2: set(range(NUM_FRAMES))}
    found = set()
    for number in range(40):
        indices = VIEW(VideoInfo(NUM_FRAMES, 48, 64, 25.0), sample_generator(0, number)).indices
        shown = set(range(min(indices), max(indices) + 1))
        expected = tuple(label for label, frames in seen.items() if frames & shown)
        assert train_clips(timed)[number].label == expected
        found.add(expected)
    assert found == {(0, 1, 2), (1, 2)}
    assert EvalClips(
        timed,
        decoder=PyAVDecoder(),
        views=EvalViews(frames=4, stride=2, clips=1, placement=Ends(), crops=Centre(48, 48)),
    )[0].label == (0, 1, 2)


def test_a_training_sample_is_a_function_of_its_number(videos: VideoList) -> None:
    clips = train_clips(videos)
    samples = [clips[number] for number in range(12)]
    torch.manual_seed(5)
    np.random.seed(5)
    copy = pickle.loads(pickle.dumps(clips))
    for number in reversed(range(12)):
        assert torch.equal(copy[number].clip, samples[number].clip)
    assert sorted(sample.index for sample in samples[:6]) == list(range(NUM_VIDEOS))
    other = train_clips(videos, seed=1)
    assert any(not torch.equal(other[number].clip, samples[number].clip) for number in range(12))


def test_samples_leave_the_global_generators_alone(videos: VideoList) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    _ = train_clips(videos)[3]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_a_bad_video_is_replaced_reported_and_reproducible(videos: VideoList, tmp_path: Path) -> None:
    clips = train_clips(with_bad(videos, tmp_path, 1, 4))
    order = Order(NUM_VIDEOS, seed=0)
    replaced = []
    for number in range(60):
        sample = clips[number]
        assert sample.index not in (1, 4)
        assert sample.label == sample.index
        if order(number) in (1, 4):
            assert sample.bad[0][0] == order(number)
            assert {index for index, _ in sample.bad} <= {1, 4}
            assert all("Invalid data" in reason for _, reason in sample.bad)
            again = clips[number]
            assert again.index == sample.index
            assert torch.equal(again.clip, sample.clip)
            replaced.append(sample.index)
        else:
            assert sample.bad == ()
            assert sample.index == order(number)
    assert len(replaced) == 20
    assert set(replaced) == {0, 2, 3, 5}  # not always the same substitute


def test_nothing_but_bad_videos_is_an_error(videos: VideoList, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bad list: 6 videos .*bad.mp4.*check data.root"):
        train_clips(with_bad(videos, tmp_path, *range(NUM_VIDEOS)))[0]
    many = VideoList(tuple(Video(str(tmp_path / f"gone{k}.mp4"), 0, f"gone{k}") for k in range(100)), ("x",), "many")
    with pytest.raises(DataError, match=f"{MAX_REPLACEMENTS} videos .*no such file"):
        train_clips(many)[0]


def test_a_test_sample_has_all_views(videos: VideoList) -> None:
    views = EvalViews(frames=4, stride=2, clips=3, placement=Ends(), crops=Three(48, 48))
    clips = EvalClips(videos, decoder=PyAVDecoder(), views=views)
    assert len(clips) == NUM_VIDEOS
    sample = clips[2]
    assert (sample.index, sample.label, sample.error) == (2, 2, None)
    assert len(sample.clips) == 9
    with PyAVDecoder().open(videos.videos[2].path) as reader:
        for clip, view in zip(sample.clips, views(reader.info), strict=True):
            assert clip.shape == (4, 48, 48, 3)
            assert (clip.numpy() == reader.read(view)).all()


def test_mirrored_views_are_mirror_images(videos: VideoList) -> None:
    views = EvalViews(frames=4, stride=2, clips=2, placement=Authors(), crops=Flipped(AuthorsThree(32, 32)))
    clips = EvalClips(videos, decoder=PyAVDecoder(), views=views)[1].clips
    assert len(clips) == 12
    for clip in (0, 6):
        for crop in range(3):
            assert torch.equal(clips[clip + crop + 3], clips[clip + crop].flip(2))
            assert not torch.equal(clips[clip + crop + 3], clips[clip + crop])


def test_whole_frames_show_the_frames_asked_for(videos: VideoList) -> None:
    views = EvalViews(frames=4, stride=5, clips=1, placement=Ends(), crops=WholeFrame(48))
    (clip,) = EvalClips(videos, decoder=PyAVDecoder(), views=views)[3].clips
    assert numbers_shown(clip.numpy()) == [300, 305, 310, 315]


def test_a_bad_test_video_is_reported_and_not_replaced(videos: VideoList, tmp_path: Path) -> None:
    views = EvalViews(frames=4, stride=2, clips=1, placement=Ends(), crops=Centre(48, 48))
    clips = EvalClips(with_bad(videos, tmp_path, 2), decoder=PyAVDecoder(), views=views)
    assert [clips[index].error is None for index in range(NUM_VIDEOS)] == [True, True, False, True, True, True]
    sample = clips[2]
    assert (sample.clips, sample.index, sample.label) == ([], 2, 2)
    assert "Invalid data" in str(sample.error)


class Counting(PyAVDecoder):
    """Notes which files are opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def open(self, path: str) -> VideoReader:
        self.opened.append(path)
        return super().open(path)


def test_repeated_samples_are_views_of_one_video_decoded_once(videos: VideoList) -> None:
    decoder = Counting()
    clips = TrainClips(videos, decoder=decoder, view=VIEW, seed=0, repeats=3)
    assert clips.samples_per_epoch == 3 * NUM_VIDEOS
    samples = clips.__getitems__(range(4, 13))  # cuts a video in two at both ends
    assert len(decoder.opened) == 4
    order = Order(NUM_VIDEOS, seed=0)
    for number, sample in zip(range(4, 13), samples, strict=True):
        alone = clips[number]
        assert sample.number == alone.number == number
        assert sample.index == alone.index == order(number // 3)
        assert sample.label == alone.label
        assert torch.equal(sample.clip, alone.clip)
    of_one_video = [sample.clip.numpy().tobytes() for sample in samples[2:5]]
    assert len(set(of_one_video)) == 3


def test_a_bad_video_among_repeated_samples_is_replaced_for_each_as_if_alone(videos: VideoList, tmp_path: Path) -> None:
    clips = TrainClips(with_bad(videos, tmp_path, 1, 4), decoder=PyAVDecoder(), view=VIEW, seed=0, repeats=2)
    together = clips.__getitems__(range(2 * NUM_VIDEOS))
    assert sum(bool(sample.bad) for sample in together) == 4
    for number, sample in enumerate(together):
        alone = clips[number]
        assert (sample.index, sample.bad) == (alone.index, alone.bad)
        assert torch.equal(sample.clip, alone.clip)


def test_pixels_change_by_the_generator_of_the_sample_here_or_on_the_device(videos: VideoList) -> None:
    rule = InTurn({"a": RandAugment(), "b": ColourJitter(), "c": RandomErasing(probability=1.0)})
    here, there, plain = (
        TrainClips(videos, decoder=PyAVDecoder(), view=VIEW, seed=0, pixels=pixels, on_device=on_device)
        for pixels, on_device in ((rule, False), (rule, True), (None, False))
    )
    for number in range(8):
        untouched = plain[number].clip
        assert here[number].changes == plain[number].changes == ()
        assert torch.equal(there[number].clip, untouched)
        assert torch.equal(changed(untouched, there[number].changes), here[number].clip)
        assert not torch.equal(here[number].clip, untouched)
        with PyAVDecoder().open(videos.videos[here[number].index].path) as reader:
            generator = sample_generator(0, number)
            view = VIEW(reader.info, generator)
            expected = changed(torch.from_numpy(reader.read(view)), rule(view.size, generator))
        assert torch.equal(here[number].clip, expected)


def test_repeats_are_counted_from_one(videos: VideoList) -> None:
    with pytest.raises(ConfigError, match=r"data\.repeats must be at least 1"):
        TrainClips(videos, decoder=PyAVDecoder(), view=VIEW, seed=0, repeats=0)
