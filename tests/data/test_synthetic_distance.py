"""The synthetic videos of known distances: what a path says of its video, and what must not tell the class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nlnet.data.annotations import from_lists
from nlnet.data.synthetic_distance import CLASSES, RADIUS, SEEN, draw_scene, prepare
from nlnet.errors import ConfigError

FORM = {"frames": 8, "size": 24}


@pytest.mark.parametrize(("time", "space"), [(0, 7), (0, 18), (1, 7), (5, 7), (3, 12)])
def test_objects_are_as_far_apart_as_asked(time: int, space: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(200):
        scene = draw_scene(number % 2, generator, **FORM, time=time, space=space)
        first, second = scene.first, scene.second
        assert np.hypot(*np.subtract(first.centre, second.centre)) == pytest.approx(space)
        for thing in (first, second):
            assert len(thing.seen) == SEEN
            assert thing.seen.start >= 0
            assert thing.seen.stop <= FORM["frames"]
            assert thing.velocity == (0, 0)
            assert all(RADIUS - 1e-9 <= place <= FORM["size"] - 1 - RADIUS + 1e-9 for place in thing.centre)
        assert second.seen.start - (first.seen.stop - 1 if time else first.seen.start) == time


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_class_is_the_relation(label: int) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        scene = draw_scene(label, generator, **FORM, time=0, space=9)
        assert (scene.first.colour == scene.second.colour) == (CLASSES[label] == "same_hue")


def test_places_and_looks_do_not_tell_the_class() -> None:
    """The looks of each object and the mean places are the same in every class, up to chance."""
    places = []
    for label in range(2):
        generator = np.random.default_rng(label)
        scenes = [draw_scene(label, generator, **FORM, time=2, space=7) for _ in range(400)]
        for objects in ([scene.first for scene in scenes], [scene.second for scene in scenes]):
            counts = Counter(thing.colour for thing in objects)
            assert len(counts) == 2
            assert all(150 < count < 250 for count in counts.values())  # 200 expected, standard deviation 10
            places.append(np.mean([thing.centre for thing in objects], axis=0))
    assert np.ptp(places, axis=0).max() < 1.5  # pixels; standard deviation of each mean 0.25


def test_prepared_set(tmp_path: Path) -> None:
    prepare(str(tmp_path / "set"), num_train=60, num_val=24, times=[0, 3], spaces=[7, 12, 15], seed=1)
    lists = from_lists(root=str(tmp_path / "set"), train="train.csv", val="val.csv", classes="classes.txt")
    assert lists.classes == CLASSES
    folders = Counter((video.name.split("/")[1], video.label) for video in lists.val.videos)
    names = ["time_00_space_07", "time_00_space_12", "time_00_space_15", "time_03_space_07"]
    assert folders.keys() == {(name, label) for name in names for label in range(2)}
    assert set(folders.values()) == {3}
    training = Counter(video.name.split("/")[1] for video in lists.train.videos)
    assert training.keys() <= set(names)
    assert training.most_common(1)[0][0] == "time_00_space_07"


@pytest.mark.parametrize(
    "wrong", [{"times": [6]}, {"times": [-1]}, {"spaces": [6]}, {"spaces": [22]}, {"size": 25}, {"num_val": 20}]
)
def test_impossible_parameters_are_refused(tmp_path: Path, wrong: dict[str, int | list[int]]) -> None:
    (value,) = wrong.values()
    with pytest.raises(ConfigError, match=str(value).replace("[", r"\[")):
        prepare(str(tmp_path / "set"), **{"size": 24, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()
