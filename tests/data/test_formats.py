"""Every published form of annotations, with real small videos: it is read, and a step of training is taken with it.

The names are the rows of the table in docs/data.md.
"""

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nlnet.cli import run
from nlnet.config.compose import build, compose
from nlnet.config.evaluation import build_annotations
from nlnet.data.annotations import find_missing, from_lists
from nlnet.data.annotations.lists import ListForm
from tests.conftest import SMALL, write_clip

Make = Callable[[Path, Path], list[str]]  # (root, a folder of four videos) -> overrides


def place(source: Path, *targets: Path) -> None:
    """The four videos under the given names, whatever their extension says of the container."""
    for video, target in zip(sorted(source.iterdir()), targets, strict=False):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, target)


def folder(root: Path, source: Path) -> list[str]:
    place(source, root / "a/1.mp4", root / "a/2.mp4", root / "b/3.MP4", root / "b/4.mkv")
    return ["data=folder"]


def folder_with_splits(root: Path, source: Path) -> list[str]:
    place(source, root / "train/a/1.mp4", root / "train/b/2.mp4", root / "val/a/3.mp4", root / "val/b/4.mp4")
    return ["data=folder"]


def slowfast(root: Path, source: Path) -> list[str]:
    place(source, root / "a b/1.mp4", root / "2.mp4", root / "3.mp4", root / "4.mp4")
    (root / "train.csv").write_text(f"{root}/a b/1.mp4 0\n{root}/2.mp4 1\n")
    (root / "val.csv").write_text(f"{root}/3.mp4 0\n{root}/4.mp4 1\n")
    return ["data=lists"]


def slowfast_with_commas(root: Path, source: Path) -> list[str]:
    place(source, root / "1.mp4", root / "2.mp4", root / "3.mp4", root / "4.mp4")
    (root / "train.csv").write_text("1.mp4,0\n2.mp4,1\n")
    (root / "val.csv").write_text("3.mp4,0\n4.mp4,1\n")
    return ["data=lists", "data.annotations.form.separator=','"]


def mmaction2(root: Path, source: Path) -> list[str]:
    place(source, *(root / "videos_train/a" / file for file in ("1.mp4", "2.mp4")))
    place(source, *(root / "videos_val/a" / file for file in ("3.mp4", "4.mp4")))
    (root / "k_train_list_videos.txt").write_text("a/1.mp4 0\na/2.mp4 1\n")
    (root / "k_val_list_videos.txt").write_text("a/3.mp4 0\na/4.mp4 1\n")
    return [
        "data=lists",
        "data.annotations.train=k_train_list_videos.txt",
        "data.annotations.val=k_val_list_videos.txt",
        "data.annotations.folders.train=videos_train",
        "data.annotations.folders.val=videos_val",
    ]  # fmt: skip


def mmaction2_several_labels(root: Path, source: Path) -> list[str]:
    overrides = mmaction2(root, source)
    (root / "k_train_list_videos.txt").write_text("a/1.mp4 0 2\na/2.mp4 1\n")
    (root / "k_val_list_videos.txt").write_text("a/3.mp4 0 1 2\na/4.mp4 1\n")
    return [*overrides, "data.annotations.form.several_labels=true", "trainer/loss=binary_cross_entropy"]


def gluoncv(root: Path, source: Path) -> list[str]:
    """With a number of frames, and names without extension."""
    place(source, root / "train/a/1.mp4", root / "train/b/2.webm", root / "val/a/3.mkv", root / "val/b/4.mp4")
    (root / "train.txt").write_text("train/a/1 10 0\ntrain/b/2 10 1\n")
    (root / "val.txt").write_text("val/a/3 10 0\nval/b/4 10 1\n")
    return [
        "data=lists",
        "data.annotations.train=train.txt",
        "data.annotations.val=val.txt",
        "data.annotations.folders.train=train",
        "data.annotations.folders.val=val",
        "data.annotations.folders.any_container=true",
    ]  # fmt: skip


CSV = "label,youtube_id,time_start,time_end,split,is_cc\n"


def kinetics(root: Path, source: Path, files: list[str]) -> list[str]:
    place(source, *(root / file for file in files))
    (root / "annotations").mkdir()
    train = '"air drumming",-aaaaaaaaaa,0,10,train,0\nzumba,_bbbbbbbbbb,5,15,train,0\n'
    val = '"air drumming",cccccccccc-,7,17,val,1\nzumba,dddddddddd_,8,18,val,1\n'
    (root / "annotations/train.csv").write_text(CSV + train)
    (root / "annotations/val.csv").write_text(CSV + val)
    return ["data=kinetics400", "data.annotations.num_classes=2"]


def kinetics_flat(root: Path, source: Path) -> list[str]:
    files = ["train/-aaaaaaaaaa_000000_000010.mp4", "train/_bbbbbbbbbb_000005_000015.mkv"]
    return kinetics(root, source, [*files, "val/cccccccccc-_000007_000017.webm", "val/dddddddddd__000008_000018.mp4"])


def kinetics_folders(root: Path, source: Path) -> list[str]:
    files = ["train/air_drumming/-aaaaaaaaaa_000000_000010.mp4", "train/zumba/_bbbbbbbbbb_000005_000015.mp4"]
    files += ["val/air drumming/cccccccccc-_000007_000017.mp4", "val/zumba/dddddddddd__000008_000018.mp4"]
    return kinetics(root, source, files)


def kinetics_authors(root: Path, source: Path) -> list[str]:
    files = ["train/air_drumming/-aaaaaaaaaa.mp4.webm", "train/zumba/_bbbbbbbbbb.mkv"]
    place(source, *(root / file for file in (*files, "val/air_drumming/cccccccccc-.mp4", "val/zumba/dddddddddd_.mp4")))
    (root / "trainlist.txt").write_text("/x/t/air_drumming/-aaaaaaaaaa.mp4 0\n/x/t/zumba/_bbbbbbbbbb.mp4 1\n")
    (root / "vallist.txt").write_text("/x/v/air_drumming/cccccccccc-.mp4 0\n/x/v/zumba/dddddddddd_.mp4 1\n")
    return ["data=kinetics400_authors", "data.annotations.num_classes=2"]


def ucf101(root: Path, source: Path) -> list[str]:
    names = [f"v_{label}_g{group:02d}_c01.avi" for group in (8, 1) for label in ("Archery", "HandStandPushups")]
    folders = ["Archery", "HandstandPushups"] * 2
    place(source, *(root / "UCF-101" / folder / name for folder, name in zip(folders, names, strict=True)))
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 HandstandPushups\n")
    (lists / "trainlist02.txt").write_text(f"Archery/{names[0]} 1\r\nHandstandPushups/{names[1]} 2\r\n")
    (lists / "testlist02.txt").write_text(f"Archery/{names[2]}\nHandstandPushups/{names[3]}\n")
    return ["data=ucf101", "data.annotations.split=2", "data.annotations.num_classes=2"]


def hmdb51(root: Path, source: Path) -> list[str]:
    sources = (("#1", "sit"), ("x", "wave"), ("y", "sit"), ("z!", "wave"))
    names = [f"{name}_{label}_f_nm_np1_ba_goo_0.avi" for name, label in sources]
    place(source, *(root / "hmdb51_org" / label / name for label, name in zip(["sit", "wave"] * 2, names, strict=True)))
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir()
    for label, (first, second) in zip(("sit", "wave"), (names[::2], names[1::2]), strict=True):
        (lists / f"{label}_test_split1.txt").write_text(f"{first} 1 \n{second} 2 \nunused.avi 0 \n")
    return ["data=hmdb51", "data.annotations.num_classes=2"]


def ssv2(root: Path, source: Path) -> list[str]:
    place(source, *(root / "20bn-something-something-v2" / f"{number}.webm" for number in (10, 2, 3, 4)))
    labels = {"Holding something": "0", "Opening something": "1"}
    (root / "something-something-v2-labels.json").write_text(json.dumps(labels))
    for split, ids in (("train", ("10", "2")), ("validation", ("3", "4"))):
        templates = ("Holding [something]", "Opening [something]")
        videos = [{"id": each, "label": "x", "template": text} for each, text in zip(ids, templates, strict=True)]
        (root / f"something-something-v2-{split}.json").write_text(json.dumps(videos))
    return ["data=ssv2", "data/clip=4x2", "data.annotations.num_classes=2"]


def charades(root: Path, source: Path) -> list[str]:
    place(source, *(root / "Charades_v1_480" / f"{name}.mp4" for name in ("AAAA1", "BBBB2", "CCCC3", "DDDD4")))
    (root / "Charades").mkdir()
    (root / "Charades/Charades_v1_classes.txt").write_text("c000 Holding some clothes\nc001 Closing a door\n")
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    for file, ids, actions in (
        ("train", ("AAAA1", "BBBB2"), ("c000 0.00 0.50;c001 0.20 1.00", "")),
        ("test", ("CCCC3", "DDDD4"), ("c001 0.00 1.00", "c000 0.00 1.00")),
    ):
        rows = (f'{each},X,Kitchen,6,7,Yes,"a, b",x,y,{text},1.0\n' for each, text in zip(ids, actions, strict=True))
        (root / f"Charades/Charades_v1_{file}.csv").write_text(header + "".join(rows))
    return [
        "data=charades",
        "data.annotations.num_classes=2",
        "trainer/loss=binary_cross_entropy",
    ]


def frames(folder: Path, pattern: str, *, colour: int) -> None:
    """Eight pictures of one colour."""
    folder.mkdir(parents=True)
    for number in range(8):
        pixels = np.full((36, 36, 3), (colour, 255 - colour, number * 8), np.uint8)
        Image.fromarray(pixels).save(folder / pattern.format(number + 1))


def tsm(root: Path, source: Path) -> list[str]:
    for number, name in enumerate(("v_a_g01_c01", "v_b_g01_c01", "v_a_g02_c01", "v_b_g02_c01")):
        frames(root / "images" / name, "img_{:05d}.jpg", colour=number % 2 * 200)
    (root / "train_videofolder.txt").write_text("v_a_g01_c01 8 0\nv_b_g01_c01 8 1\n")
    (root / "val_videofolder.txt").write_text("v_a_g02_c01 8 0\nv_b_g02_c01 8 1\n")
    return [
        "data=lists",
        "data/decoder=frames",
        "data.annotations.train=train_videofolder.txt",
        "data.annotations.val=val_videofolder.txt",
        "data.annotations.folders.train=images",
        "data.annotations.folders.val=images",
    ]  # fmt: skip


def slowfast_frames(root: Path, source: Path) -> list[str]:
    for split, names in (("train", ("AAAA1", "BBBB2")), ("val", ("CCCC3", "DDDD4"))):
        lines = ["original_vido_id video_id frame_id path labels"]
        for number, name in enumerate(names):
            frames(root / "rgb" / name, name + "-{:06d}.jpg", colour=number * 200)
            labels = ['"0,1"', '""'][number]
            lines += [f"{name} {number} {frame} {name}/{name}-{frame + 1:06d}.jpg {labels}" for frame in range(8)]
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return ["data=frame_lists", "data.annotations.frames=rgb", "trainer/loss=binary_cross_entropy"]


FORMATS: dict[str, Make] = {
    "folder per class": folder,
    "folder per class, train and val": folder_with_splits,
    "SlowFast list": slowfast,
    "SlowFast list, other separator": slowfast_with_commas,
    "MMAction2 list": mmaction2,
    "MMAction2 list, several labels": mmaction2_several_labels,
    "gluon-cv list": gluoncv,
    "Kinetics CSV, flat": kinetics_flat,
    "Kinetics CSV, class folders": kinetics_folders,
    "Kinetics of the paper's authors": kinetics_authors,
    "UCF-101 splits": ucf101,
    "HMDB-51 splits": hmdb51,
    "Something-Something v2 JSON": ssv2,
    "Charades CSV": charades,
    "TSM list": tsm,
    "SlowFast frame list": slowfast_frames,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number in range(4):
        write_clip(folder / f"{number}.mp4", ((200, 60, 60), (60, 60, 200))[number % 2], seed=number, frames=8, size=36)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_format(name: str, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "a data set"
    root.mkdir()
    overrides = [*FORMATS[name](root, source), f"data.root={root}"]
    data = compose("train", overrides).data
    annotations = build_annotations(data)
    unreadable = build(data.decoder).unreadable
    for videos in (annotations.train, annotations.val):
        assert len(videos) == 2
        assert not find_missing(videos, unreadable=unreadable)
    small = [each for each in SMALL if not each.startswith(("data=", "trainer.", "optim.lr"))]
    steps = ["trainer.batch_size=2", "trainer.epochs=1", f"runs={tmp_path / 'runs'}", "name=one", "optim.lr=0.01"]
    assert run("train", [*overrides, *small, *steps]) == 0
    assert not (tmp_path / "runs/one/s0/bad_videos.csv").exists()
    (results,) = (tmp_path / "runs/one/s0/eval").glob("*/results.json")
    scores = json.loads(results.read_text())
    assert scores["step"] == 1


@pytest.mark.parametrize("name", ["Kinetics CSV, flat", "Charades CSV"])
def test_plain_lists_and_shards_of_a_data_set(name: str, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    overrides = [*FORMATS[name](root, source), f"data.root={root}"]
    annotations = build_annotations(compose("train", overrides).data)
    assert run("data", ["lists", *overrides, "--out", str(tmp_path / "lists")]) == 0
    form = ListForm(several_labels=annotations.train.multi_label)
    lists = {"train": "train.csv", "val": "val.csv", "classes": "classes.txt"}
    files = {key: str(tmp_path / "lists" / file) for key, file in lists.items()}
    again = from_lists(root=str(root), form=form, **files)
    assert again.classes == annotations.classes
    for before, after in ((annotations.train, again.train), (annotations.val, again.val)):
        assert [(video.path, video.label) for video in after.videos] == [
            (video.path, video.label) for video in before.videos
        ]
    command = ["shard", files["train"], "--root", str(root), "--classes", files["classes"]]
    command += ["--several-labels"] if form.several_labels else []
    assert run("data", [*command, "--out", str(tmp_path / "shards")]) == 0
    with tarfile.open(tmp_path / "shards/train-000000.tar") as tar:
        found = [json.load(tar.extractfile(member)) for member in tar if member.name.endswith(".json")]  # type: ignore[arg-type]
    expected = {
        str(Path(video.path).relative_to(root)): list(video.label) if isinstance(video.label, tuple) else video.label
        for video in annotations.train.videos
    }
    assert {sample["name"]: sample["label"] for sample in found} == expected


def test_the_table_names_what_is_tested(repository: Path) -> None:
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([^|]+) \| [^|]+ \| yes \| yes \|$", text, flags=re.MULTILINE) == list(FORMATS)
