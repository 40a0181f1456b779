"""Kinetics as DeepMind, CVDF and the authors of the paper publish it."""

from pathlib import Path

import pytest

from nlnet.data.annotations import find_missing
from nlnet.data.annotations.kinetics import class_name, from_csv, from_txt
from nlnet.errors import DataError
from tests.data.annotations.conftest import Write, as_rows

HEADER = "label,youtube_id,time_start,time_end,split\n"
TRAIN = HEADER + (
    "zumba,-3B32lodo2M,59,69,train\n"
    '"air drumming",_dbcJuKJQNs,0,10,train\n'
    "massaging person's head,abc_DEF_123,1205,1215,train\n"
    "passing American football (in game),99999999999,7,17,train\n"
)
VAL = 'label,youtube_id,time_start,time_end,split,is_cc\n"air drumming",00000000000,100,110,val,0\n'
CLASSES = ("air drumming", "massaging person's head", "passing American football (in game)", "zumba")


@pytest.fixture
def published(write: Write) -> None:
    write("annotations/train.csv", TRAIN)
    write("annotations/val.csv", VAL)


FLAT = {
    "-3B32lodo2M_000059_000069": "train/-3B32lodo2M_000059_000069.mp4",
    "_dbcJuKJQNs_000000_000010": "train/_dbcJuKJQNs_000000_000010.mp4",
    "abc_DEF_123_001205_001215": "train/abc_DEF_123_001205_001215.mkv",
    "99999999999_000007_000017": "train/99999999999_000007_000017.webm",
}
IN_FOLDERS = {
    "-3B32lodo2M_000059_000069": "train/zumba/-3B32lodo2M_000059_000069.mp4",
    "_dbcJuKJQNs_000000_000010": "train/air drumming/_dbcJuKJQNs_000000_000010.mp4",
    "abc_DEF_123_001205_001215": "train/massaging person's head/abc_DEF_123_001205_001215.mp4",
    "99999999999_000007_000017": "train/passing_American_football_(in_game)/99999999999_000007_000017.mp4",
}
AUTHORS = {
    "-3B32lodo2M_000059_000069": "train/zumba/-3B32lodo2M.mp4",
    "_dbcJuKJQNs_000000_000010": "train/air_drumming/_dbcJuKJQNs.mp4.webm",
    "abc_DEF_123_001205_001215": "train/massaging_person's_head/abc_DEF_123.mkv",
    "99999999999_000007_000017": "train/passing_American_football_(in_game)/99999999999.webm",
}
OTHER_TIMES = {**FLAT, "abc_DEF_123_001205_001215": "train/abc_DEF_123_001200_001210.mp4"}


@pytest.mark.parametrize("layout", [FLAT, IN_FOLDERS, AUTHORS, OTHER_TIMES])
def test_each_row_finds_its_file_in_every_layout(
    layout: dict[str, str], published: None, write: Write, tmp_path: Path
) -> None:
    for file in (*layout.values(), "val/00000000000_000100_000110.mp4", "train/.hidden.mp4", "train/list.txt"):
        write(file)
    annotations = from_csv(root=str(tmp_path), num_classes=4)
    assert annotations.classes == CLASSES
    labels = [3, 0, 1, 2]
    expected = [(name, label, file) for (name, file), label in zip(layout.items(), labels, strict=True)]
    assert as_rows(annotations.train, tmp_path) == expected
    assert as_rows(annotations.val, tmp_path) == [("00000000000_000100_000110", 0, "val/00000000000_000100_000110.mp4")]
    assert find_missing(annotations.train) == []


def test_the_name_of_a_video_does_not_depend_on_its_file(published: None, write: Write, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    write("train/zumba/-3B32lodo2M.mp4")
    before = from_csv(root=str(tmp_path)).train
    write("train/_dbcJuKJQNs_000000_000010.webm")
    after = from_csv(root=str(tmp_path)).train
    assert before.digest() == after.digest()
    assert [len(find_missing(videos)) for videos in (before, after)] == [3, 2]


def test_a_missing_video_is_kept_and_counted(published: None, write: Write, tmp_path: Path) -> None:
    for file in list(FLAT.values())[1:]:
        write(file)
    write("val/00000000000_000100_000110.mp4")
    annotations = from_csv(root=str(tmp_path))
    assert len(annotations.train) == 4
    ((video, reason),) = find_missing(annotations.train)
    assert (video.name, reason) == ("-3B32lodo2M_000059_000069", "no such file")


def test_two_clips_of_one_video_are_told_apart_by_their_times(write: Write, tmp_path: Path) -> None:
    """As in the validation list of Kinetics-600 (activitynet/ActivityNet, issue 47)."""
    write("annotations/train.csv", HEADER + "knitting,11111111111,1,11,train\nspinning,22222222222,0,10,train\n")
    write("annotations/val.csv", HEADER + "knitting,dMzycn1d3qU,1,11,val\nspinning,dMzycn1d3qU,0,10,val\n")
    (tmp_path / "train").mkdir()
    write("val/dMzycn1d3qU_000001_000011.mp4")
    validation = from_csv(root=str(tmp_path)).val
    assert [video.label for video in validation.videos] == [0, 1]
    ((missing, _),) = find_missing(validation)
    assert missing.name == "dMzycn1d3qU_000000_000010"  # never the other clip of that id


def test_of_two_files_with_an_id_the_one_in_the_class_folder_is_taken(write: Write, tmp_path: Path) -> None:
    write("annotations/train.csv", HEADER + "a b,11111111111,1,11,train\nc,11111111111,20,30,train\n")
    write("annotations/val.csv", HEADER + "c,22222222222,1,11,val\n")
    (tmp_path / "val").mkdir()
    write("train/c/11111111111.mp4")
    write("train/a_b/11111111111.webm")
    training = from_csv(root=str(tmp_path)).train
    assert [video.path for video in training.videos] == [
        str(tmp_path / "train/a_b/11111111111.webm"),
        str(tmp_path / "train/c/11111111111.mp4"),
    ]


REFUSED = {
    "a class only in val": (TRAIN, HEADER + "\nzumbaa,11111111111,0,10,val\n", r"val.csv:3: no such class .*'zumba'\?"),
    "no labels": (TRAIN, "youtube_id,time_start,time_end,split\nx,0,10,test\n", r"val.csv:1: no column 'label'.*test"),
    "no header": (TRAIN.removeprefix(HEADER), VAL, r"train.csv:1: no column 'label' in the header"),
    "no times": (TRAIN + "zumba,11111111111,,,train\n", VAL, r"train.csv:6: times '' to '' are not seconds"),
    "no id": (TRAIN + "zumba,,0,10,train\n", VAL, r"train.csv:6: the youtube_id is empty"),
    "a comma": (TRAIN + "a, b,11111111111,0,10,train\n", VAL, r"train.csv:6: 6 fields where the header has 5"),
    "twice": (TRAIN + "zumba,-3B32lodo2M,59,69,train\n", VAL, r"train.csv:6: -3B32.*train.csv:2; remove one"),
    "empty": (TRAIN, HEADER, r"val.csv: names no videos"),
    "a class too few": (HEADER + "zumba,x,0,10,train\n", VAL, r"train.csv: 1 classes .* has 4; .*num_classes=null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_files_are_refused_with_their_line(case: str, write: Write, tmp_path: Path) -> None:
    train, val, message = REFUSED[case]
    write("annotations/train.csv", train)
    write("annotations/val.csv", val)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=message):
        from_csv(root=str(tmp_path), num_classes=4)


def test_a_video_of_both_lists_is_refused(published: None, write: Write, tmp_path: Path) -> None:
    write("annotations/val.csv", HEADER + "zumba,-3B32lodo2M,59,69,val\n")
    (tmp_path / "all").mkdir()
    with pytest.raises(DataError, match=r"val.csv:2: .*train.csv:2"):
        from_csv(root=str(tmp_path), train_videos="all", val_videos="all")


def test_folders_that_are_not_there_name_their_key(published: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: no such folder .*data.annotations.train_videos"):
        from_csv(root=str(tmp_path))


@pytest.mark.parametrize("written", ["air drumming", '"air drumming"', "air_drumming", ' "air_drumming" '])
def test_class_names_are_the_same_however_they_are_written(written: str) -> None:
    assert class_name(written) == "air drumming"


def test_the_authors_lists(write: Write, tmp_path: Path) -> None:
    write(
        "trainlist.txt",
        "/elsewhere/train_256/zumba/-3B32lodo2M.mp4 2\n"
        "/elsewhere/train_256/air_drumming/_dbcJuKJQNs.mkv 0\n"
        "/elsewhere/train_256/massaging_person's_head/9EnSwbXxu5g.mp4.webm 1\n",
    )
    write("vallist.txt", "../val_256/air_drumming/00000000000.mp4 0\n")
    for file in ("zumba/-3B32lodo2M.mp4", "air_drumming/_dbcJuKJQNs.mp4", "massaging_person's_head/9EnSwbXxu5g.webm"):
        write(f"train/{file}")
    write("val/air_drumming/00000000000.mkv")
    annotations = from_txt(root=str(tmp_path), num_classes=3)
    assert annotations.classes == ("air drumming", "massaging person's head", "zumba")
    assert as_rows(annotations.train, tmp_path) == [
        ("-3B32lodo2M", 2, "train/zumba/-3B32lodo2M.mp4"),
        ("_dbcJuKJQNs", 0, "train/air_drumming/_dbcJuKJQNs.mp4"),
        ("9EnSwbXxu5g", 1, "train/massaging_person's_head/9EnSwbXxu5g.webm"),
    ]
    assert as_rows(annotations.val, tmp_path) == [("00000000000", 0, "val/air_drumming/00000000000.mkv")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x/zumba/a.mp4 7", r"trainlist.txt:2: label 7, but 'zumba' is number 1 of the 2 classes"),
        ("x/zumba/a.mp4", r"trainlist.txt:2: not '…/CLASS/VIDEO label'"),
        ("a.mp4 1", r"trainlist.txt:2: not '…/CLASS/VIDEO label'"),
    ],
)
def test_wrong_lines_of_the_authors_lists(line: str, message: str, write: Write, tmp_path: Path) -> None:
    write("trainlist.txt", f"x/abseiling/b.mp4 0\n{line}\n")
    write("vallist.txt", "x/abseiling/c.mp4 0\n")
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=message):
        from_txt(root=str(tmp_path))
