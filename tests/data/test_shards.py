"""Tar shards: the videos and labels that were put in, each once an epoch, by anybody, from anywhere in it."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import fsspec
import pytest
import torch

from nlnet.data import loader as loader_module
from nlnet.data.annotations import Annotations, find_missing
from nlnet.data.annotations.shards import from_shards
from nlnet.data.clips import TrainClips
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.decoders.shards import ShardDecoder, read_member, shard_of
from nlnet.data.loader import Readers, TrainBatch, train_loader
from nlnet.data.orders import ShardBuffer
from nlnet.data.sampling import sample_generator
from nlnet.data.transforms import TrainView
from nlnet.errors import ConfigError, DataError, VideoError
from tests.data.conftest import Encoding, counter_frame, numbers_shown, write_video

PER_SHARD = (5, 3, 6)  # training videos; video k shows the numbers from 20 k on
CLASSES = ("run", "sit", "wave")


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("single")
    for k in range(16):
        write_video(folder / f"{k}.mp4", [counter_frame(20 * k + n) for n in range(12)], Encoding(f"{k}.mp4"))
    return [(folder / f"{k}.mp4").read_bytes() for k in range(16)]


def write_shards(root: Path, prefix: str, contents: Sequence[bytes], sizes: Sequence[int], first: int = 0) -> None:
    number = first
    for shard, size in enumerate(sizes):
        with tarfile.open(root / f"{prefix}-{shard:06d}.tar", "w") as tar:
            for _ in range(size):
                if number % 3 == 0:
                    add(tar, f"{number:04d}.cls", CLASSES[number % 3].encode())
                elif number % 3 == 1:
                    add(tar, f"{number:04d}.cls", b"1\n")
                else:
                    add(tar, f"{number:04d}.json", json.dumps({"label": number % 3, "name": f"n{number}"}).encode())
                add(tar, f"{number:04d}.mp4", contents[number])
                number += 1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, "train", contents, PER_SHARD)
    write_shards(folder, "val", contents, [2], first=14)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return folder


def train_clips(annotations: Annotations) -> TrainClips:
    return TrainClips(
        annotations.train,
        decoder=ShardDecoder(PyAVDecoder()),
        view=TrainView(frames=3, stride=1, short_side=(48, 48), crop=48),
        seed=0,
        order=ShardBuffer(4),
    )


def test_each_video_is_the_one_put_in_with_its_label(root: Path, contents: list[bytes]) -> None:
    annotations = from_shards(root=str(root))
    assert annotations.classes == CLASSES
    assert (len(annotations.train), len(annotations.val)) == (14, 2)
    videos = [*annotations.train.videos, *annotations.val.videos]
    assert [video.label for video in videos] == [k % 3 for k in range(16)]
    assert videos[0].name == "train-000000.tar/0000.mp4"
    assert videos[2].name == "n2"
    decoder = ShardDecoder(PyAVDecoder())
    for k, video in enumerate(videos):
        assert read_member(video.path) == contents[k]
        with decoder.open(video.path) as reader:
            assert numbers_shown(reader.frames(range(12))) == [20 * k + n for n in range(12)]
    assert [decoder.unreadable(path) for path in (videos[0].path, "gone.tar#a.mp4@0+1")] == [None, "no such file"]
    assert find_missing(annotations.train, unreadable=decoder.unreadable) == []


def test_samples_are_those_of_the_files_themselves(root: Path, contents: list[bytes], tmp_path: Path) -> None:
    clips = train_clips(from_shards(root=str(root)))
    for number in range(5):
        sample = clips[number]
        (tmp_path / "video.mp4").write_bytes(contents[sample.index])
        with PyAVDecoder().open(str(tmp_path / "video.mp4")) as reader:
            expected = reader.read(clips.view(reader.info, sample_generator(0, number)))
        assert (sample.clip.numpy() == expected).all()


def batches(annotations: Annotations, *, start: int = 0, workers: int = 0) -> list[TrainBatch]:
    return list(
        train_loader(train_clips(annotations), batch_size=4, start_step=start, steps=7, readers=Readers(workers))
    )


@pytest.mark.parametrize(("workers", "world"), [(2, 1), (0, 2), (1, 4)])
def test_each_sample_once_an_epoch_whoever_reads_and_wherever_one_starts(
    root: Path, workers: int, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = from_shards(root=str(root))
    alone = batches(annotations)
    indices = torch.cat([batch.indices for batch in alone]).tolist()
    for epoch in (indices[:14], indices[14:]):
        assert sorted(epoch) == list(range(14))
    assert indices[:14] != indices[14:]
    for start in (0, 2):
        shares = []
        for rank in range(world):
            monkeypatch.setattr(loader_module, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(loader_module, "world_size", lambda: world)
            shares.append(batches(annotations, start=start, workers=workers))
        for step, expected in enumerate(alone[start:]):
            assert torch.equal(torch.cat([share[step].clips for share in shares]), expected.clips)
            assert torch.equal(torch.cat([share[step].indices for share in shares]), expected.indices)


@pytest.mark.parametrize("buffer", [1, 4, 100])
def test_the_order_is_a_buffer_over_shards_in_a_row(root: Path, buffer: int) -> None:
    videos = from_shards(root=str(root)).train
    orders = set()
    for epoch in range(6):
        drawn = ShardBuffer(buffer)(videos, sample_generator(0, epoch, 0)).tolist()
        orders.add(tuple(drawn))
        # By hand: the shards' order from the same generator, then one in, one out.
        generator = sample_generator(0, epoch, 0)
        parts = [list(range(0, 5)), list(range(5, 8)), list(range(8, 14))]
        stream = [index for number in generator.permutation(3) for index in parts[number]]
        assert sorted(drawn) == list(range(14))
        for position, index in enumerate(drawn):
            assert stream.index(index) < position + buffer  # never further ahead than the buffer
        if buffer == 1:
            assert drawn == stream
    assert len(orders) > 2


def test_shards_anywhere_that_fsspec_reads(root: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(root), "/bucket", recursive=True)
    sizes = {"train": PER_SHARD, "val": (2,)}
    for prefix, of_prefix in sizes.items():
        listed = [{"url": f"{prefix}-{k:06d}.tar", "nsamples": size} for k, size in enumerate(of_prefix)]
        system.pipe_file(f"/bucket/{prefix}.json", json.dumps({"wids_version": 1, "shardlist": listed}).encode())
    there, here = from_shards(root="memory://bucket"), from_shards(root=str(root))
    assert there.train.digest() == here.train.digest()
    assert shard_of(there.train.videos[0].path) == "memory://bucket/train-000000.tar"
    assert torch.equal(train_clips(there)[3].clip, train_clips(here)[3].clip)
    system.rm("/bucket", recursive=True)
    with pytest.raises(VideoError, match="cannot be read"):
        ShardDecoder(PyAVDecoder()).open(there.train.videos[0].path)


def test_bad_members_are_bad_videos_by_their_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        add(tar, "a.cls", b"0")
        add(tar, "a.mp4", b"<html>")
    (tmp_path / "val-0.tar").write_bytes((tmp_path / "train-0.tar").read_bytes())
    videos = from_shards(root=str(tmp_path), classes=None).train
    with pytest.raises(VideoError, match=r"train-0.tar#a.mp4@\d+\+6: Invalid data") as caught:
        ShardDecoder(PyAVDecoder()).open(videos.videos[0].path)
    assert caught.value.path == videos.videos[0].path
    (tmp_path / "train-0.tar").write_bytes(b"x" * 1538)
    with pytest.raises(VideoError, match="ends after"):
        read_member(videos.videos[0].path)
    with pytest.raises(VideoError, match="not a video in a tar shard"):
        ShardDecoder(PyAVDecoder()).open(str(tmp_path / "train-0.tar"))


def broken(root: Path) -> Iterator[str]:
    """Makes one thing wrong after the other -> what the error says."""

    def shard(members: dict[str, bytes]) -> None:
        with tarfile.open(root / "train-0.tar", "w") as tar:
            for name, content in members.items():
                add(tar, name, content)

    yield r"no train-\*\.tar"
    shard({"a.mp4": b"x"})
    yield r"train-0.tar: a: no label; it must be in a.json"
    shard({"a.cls": b"9", "a.mp4": b"x"})
    yield "9 is not the number of a class; there are 3 classes"
    shard({"a.cls": b"runn", "a.mp4": b"x"})
    yield "did you mean 'run'"
    shard({"a.cls": b"1"})
    yield "no video among its members"
    shard({"a.json": b"{", "a.mp4": b"x"})
    yield "a.json: not JSON"
    shard({"a.cls": b"1", "a.mp4": b"x" * 4000})
    whole = (root / "train-0.tar").read_bytes()
    (root / "train-0.tar").write_bytes(whole[:3000])
    yield r"train-0.tar.*copy it again"
    (root / "train-0.tar").write_bytes(whole)
    (root / "train.json").write_text('{"shardlist": [{"url": "train-0.tar", "nsamples": 2}]}')
    yield "1 samples where train.json has 2"
    (root / "train.json").write_text("[]")
    yield "train.json: not an index of shards"


def test_what_cannot_be_right_is_refused_by_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("run\nsit\nwave\n")
    for message in broken(tmp_path):
        with pytest.raises(DataError, match=message):
            from_shards(root=str(tmp_path))


def test_several_labels(tmp_path: Path) -> None:
    for prefix in ("train", "val"):
        with tarfile.open(tmp_path / f"{prefix}-0.tar", "w") as tar:
            for key, label in (("a", [4, 2]), ("b", []), ("c", [0])):
                add(tar, f"{key}.json", json.dumps({"label": label}).encode())
                add(tar, f"{key}.mp4", b"x")
    annotations = from_shards(root=str(tmp_path), classes=None)
    assert [video.label for video in annotations.train.videos] == [(2, 4), (), (0,)]
    assert annotations.train.multi_label
    assert annotations.classes == tuple(f"class_{k}" for k in range(5))


def test_no_copy_is_left_behind(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlnet.data.decoders import shards

    monkeypatch.setattr(shards, "_FOLDER", str(tmp_path))
    video = from_shards(root=str(root)).train.videos[0]
    with ShardDecoder(PyAVDecoder()).open(video.path) as reader:
        assert len(list(tmp_path.iterdir())) == 1
        reader.frames([0])
    reader.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(VideoError):
        ShardDecoder(PyAVDecoder()).open(video.path.replace("@", "@1"))
    assert not list(tmp_path.iterdir())


def test_a_buffer_holds_at_least_one() -> None:
    with pytest.raises(ConfigError, match=r"data\.order\.buffer"):
        ShardBuffer(0)
