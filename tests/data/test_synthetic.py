"""The synthetic data set: what the class depends on and what must not tell it, determinism, interrupted preparation."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from nlnet.data import synthetic
from nlnet.data.annotations import from_lists
from nlnet.data.synthetic import BRIGHTNESSES, CLASSES, HUES, Thing, draw_scene, draw_video, looks, prepare, render
from nlnet.errors import ConfigError, DataError

FORM = {"frames": 12, "size": 32, "gap": 6}
SMALL = {"num_train": 8, "num_val": 4, "seed": 3}


def decoded(path: Path) -> NDArray[np.uint8]:
    """All frames of a file. -> [T, H, W, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def middle(thing: Thing, age: int) -> NDArray[np.float64]:
    """Centre (y, x) in pixels, ``age`` frames after the first."""
    return np.array(thing.centre) + age * np.array(thing.velocity)


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_class_is_the_relation(label: int) -> None:
    for (hue, brightness), (other_hue, other_brightness) in looks(label):
        hues = "same" if hue == other_hue else "other"
        brightnesses = "same" if brightness == other_brightness else "other"
        assert CLASSES[label] == f"{hues}_hue_{brightnesses}_brightness"


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_neither_object_alone_tells_the_class(label: int) -> None:
    """Exactly, by going through all equally likely pairs: each look is 1/8 of the firsts and 1/8 of the seconds."""
    pairs = list(looks(label))
    assert len(set(pairs)) == len(pairs)
    for place in (0, 1):
        counts = Counter(pair[place] for pair in pairs)
        assert len(counts) == len(HUES) * len(BRIGHTNESSES)
        assert set(counts.values()) == {len(pairs) // len(counts)}


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_scenes_draw_all_looks_evenly(label: int) -> None:
    generator = np.random.default_rng(0)
    scenes = [draw_scene(label, generator, **FORM) for _ in range(800)]
    for things in ([scene.first for scene in scenes], [scene.second for scene in scenes]):
        counts = Counter(thing.colour for thing in things)
        assert len(counts) == len(HUES) * len(BRIGHTNESSES) == 4
        assert all(140 < count < 260 for count in counts.values())  # 200 expected, standard deviation 13
        assert {thing.shape for thing in things} == set(synthetic.SHAPES)


@pytest.mark.parametrize(("frames", "gap"), [(12, 6), (12, 0), (5, 3), (2, 0)])
def test_objects_are_apart_in_time_and_space(frames: int, gap: int) -> None:
    generator = np.random.default_rng(1)
    for number in range(200):
        scene = draw_scene(number % 4, generator, frames=frames, size=32, gap=gap)
        assert scene.first.seen.start == 0
        assert scene.second.seen.stop == frames
        assert len(scene.first.seen) == len(scene.second.seen)
        assert scene.second.seen.start - scene.first.seen.stop == gap
        first, second = (middle(thing, 0) - 15.5 for thing in (scene.first, scene.second))
        assert (np.sign(first) == -np.sign(second)).all()
        assert (first != 0).all()
        for distractor in scene.distractors:
            assert len(set(distractor.colour)) == 1  # grey: neither a hue nor the brightness of one


def test_drawn_pixels_follow_the_scene() -> None:
    generator = np.random.default_rng(2)
    for label in range(4):
        scene = draw_scene(label, generator, **FORM)
        video = render(scene, generator, frames=12, size=32)
        assert video.shape == (12, 32, 32, 3)
        assert video.dtype == np.uint8
        coloured = (video.max(axis=3).astype(int) - video.min(axis=3)) > 0
        assert coloured.any(axis=(1, 2)).tolist() == [True] * 3 + [False] * 6 + [True] * 3
        for thing in (scene.first, scene.second):
            y, x = middle(thing, 0).round().astype(int)
            assert video[thing.seen.start, y, x].tolist() == [int(value) for value in thing.colour]


def test_a_video_is_a_function_of_its_generator() -> None:
    first, again, other = (draw_video(1, np.random.default_rng(seed), **FORM) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_encoding_keeps_the_picture(tmp_path: Path) -> None:
    video = draw_video(0, np.random.default_rng(0), **FORM)
    synthetic.write_video(str(tmp_path / "a.mp4"), video)
    error = np.abs(decoded(tmp_path / "a.mp4").astype(float) - video)
    assert error.shape == video.shape
    assert error.mean() < 6  # grey levels; the edges of the colours lose most


def test_encoding_leaves_no_trace_in_other_frames(tmp_path: Path) -> None:
    """Frames without an object decode to the same bytes whatever that object looks like."""
    scene = draw_scene(0, np.random.default_rng(0), **FORM)
    changed = replace(scene, first=replace(scene.first, colour=(40.0, 120.0, 255.0), shape="square"))
    videos = []
    for name, drawn in (("a.mp4", scene), ("b.mp4", changed)):
        video = render(drawn, np.random.default_rng(1), frames=12, size=32)
        synthetic.write_video(str(tmp_path / name), video)
        videos.append(decoded(tmp_path / name))
    assert not np.array_equal(videos[0][:3], videos[1][:3])
    assert np.array_equal(videos[0][3:], videos[1][3:])


def test_prepared_set(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    prepare(str(root), **SMALL)
    assert capfd.readouterr().err.splitlines()[-1] == f"synthetic data: 12 of 12 videos in {root}"
    lists = from_lists(root=str(root), train="train.csv", val="val.csv", classes="classes.txt")
    assert lists.classes == CLASSES
    for videos, count in ((lists.train, 8), (lists.val, 4)):
        assert Counter(video.label for video in videos.videos) == dict.fromkeys(range(4), count // 4)
    contents = [Path(video.path).read_bytes() for split in (lists.train, lists.val) for video in split.videos]
    assert len(set(contents)) == 12  # every video is a fresh draw, the held-out ones too
    with av.open(lists.val.videos[0].path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames, stream.width, stream.height) == ("h264", 12, 32, 32)


def test_same_parameters_same_bytes_other_seed_other_videos(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        prepare(str(tmp_path / name), num_train=8, num_val=4, seed=seed)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert not any(a[name] == c[name] for name in a if name.endswith(".mp4"))


def test_complete_set_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(str(tmp_path / "set"), **SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    monkeypatch.setattr(synthetic, "draw_video", None)  # to call it would fail
    prepare(str(tmp_path / "set"), **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}


@pytest.mark.parametrize("stop_at", [0, 5, 9])
def test_interrupted_preparation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    """Stopped in the middle of writing a video, then called again: as if it had never stopped, nothing done twice."""
    prepare(str(tmp_path / "whole"), **SMALL)
    root, write, written = tmp_path / "set", synthetic.write_video, list[str]()

    def stopping(path: str, video: NDArray[np.uint8]) -> None:
        if len(written) == stop_at:
            Path(path + ".part").write_bytes(b"half a video")
            raise KeyboardInterrupt
        written.append(path)
        write(path, video)

    def counting(path: str, video: NDArray[np.uint8]) -> None:
        written.append(path)
        write(path, video)

    monkeypatch.setattr(synthetic, "write_video", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(root), **SMALL)
    assert not (root / "complete.json").exists()
    monkeypatch.setattr(synthetic, "write_video", counting)
    prepare(str(root), **SMALL)
    assert len(written) == len(set(written)) == 12
    assert files(root) == files(tmp_path / "whole")


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    prepare(str(tmp_path / "set"), **SMALL)
    with pytest.raises(DataError, match=r"set: holds .*seed=3 \(asked for: 4\); delete it or choose another folder"):
        prepare(str(tmp_path / "set"), num_train=8, num_val=4, seed=4)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(DataError, match=r"photos: not empty.*choose another folder"):
        prepare(str(tmp_path / "photos"), **SMALL)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    (tmp_path / "complete.json").write_text("{")
    with pytest.raises(DataError, match=r"complete\.json: damaged; delete"):
        prepare(str(tmp_path), **SMALL)


@pytest.mark.parametrize(
    "wrong", [{"gap": -2}, {"gap": 12}, {"gap": 5}, {"size": 33}, {"size": 8}, {"num_train": 3}, {"num_val": 0}]
)
def test_impossible_parameters_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="|".join(f"{name}={value}" for name, value in wrong.items())):
        prepare(str(tmp_path / "set"), **wrong)
    assert not (tmp_path / "set").exists()


def test_the_recipe_prepares(tmp_path: Path, repository: Path) -> None:
    recipe = [sys.executable, str(repository / "datasets" / "synthetic" / "prepare.py"), str(tmp_path / "set")]
    small = ["--num-train", "4", "--num-val", "4"]
    subprocess.run([*recipe, *small], check=True, timeout=60)
    assert len(list((tmp_path / "set").rglob("*.mp4"))) == 8
    refused = subprocess.run([*recipe, *small, "--seed", "1"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "choose another folder" in refused.stderr
    assert "Traceback" not in refused.stderr
