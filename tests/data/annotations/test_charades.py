"""Charades: several timed actions for each video, or none."""

from pathlib import Path

import pytest

from nlnet.data.annotations import Action
from nlnet.data.annotations.charades import from_csv
from nlnet.errors import DataError
from tests.data.annotations.conftest import Write, as_rows

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
TRAIN = HEADER + (
    '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.\nThey ""laugh"" at it.",food;stove,"One, then two",'
    "c002 11.90 21.20;c000 0.00 12.60;c002 25.00 30.00,30.50\n"
    "00T1E,ABCD,Hallway,4,5,No,Nothing happens.,,,,28.00\n"
)
VAL = HEADER + "Y1HGC,WXYZ,Bedroom,7,7,Yes,A script.,,,c001 3.10 9.00,12.00\n"
CLASSES = "c000 Holding some clothes\nc001 Putting clothes somewhere\nc002 Taking some clothes from somewhere\n"


@pytest.fixture
def published(write: Write) -> None:
    write("Charades/Charades_v1_train.csv", TRAIN)
    write("Charades/Charades_v1_test.csv", VAL)
    write("Charades/Charades_v1_classes.txt", CLASSES)
    for file in ("46GP8.mp4", "00T1E.mkv", "Y1HGC.mp4"):
        write(f"Charades_v1_480/{file}")


def test_a_video_has_all_of_its_classes(published: None, tmp_path: Path) -> None:
    annotations = from_csv(root=str(tmp_path), num_classes=3)
    assert annotations.classes[2] == "Taking some clothes from somewhere"
    assert as_rows(annotations.train, tmp_path) == [
        ("46GP8", (0, 2), "Charades_v1_480/46GP8.mp4"),
        ("00T1E", (), "Charades_v1_480/00T1E.mkv"),
    ]
    assert as_rows(annotations.val, tmp_path) == [("Y1HGC", (1,), "Charades_v1_480/Y1HGC.mp4")]
    assert annotations.train.multi_label
    names = [annotations.train.class_names(video.label) for video in annotations.train.videos]
    assert names == ["Holding some clothes, Taking some clothes from somewhere", "none"]


def test_training_clips_have_the_classes_of_their_seconds(published: None, tmp_path: Path) -> None:
    annotations = from_csv(root=str(tmp_path), num_classes=3)
    video, nothing = annotations.train.videos
    assert video.actions == (Action(2, 11.9, 21.2), Action(0, 0.0, 12.6), Action(2, 25.0, 30.0))
    for first, last, expected in (
        (0.0, 2.0, (0,)),
        (10.0, 11.9, (0, 2)),
        (12.6, 13.0, (0, 2)),
        (12.7, 13.0, (2,)),
        (21.5, 24.9, ()),
        (22.0, 26.0, (2,)),
        (0.0, 40.0, (0, 2)),
    ):
        assert video.label_between(first, last) == expected
    assert nothing.label_between(0, 10) == ()
    (validation,) = annotations.val.videos
    assert validation.label_between(0, 1) == (1,)  # a test asks for the whole video


def test_without_times_a_clip_has_the_classes_of_its_video(published: None, tmp_path: Path) -> None:
    timed, whole = (from_csv(root=str(tmp_path), num_classes=3, timed=timed).train for timed in (True, False))
    assert whole.videos[0].label_between(0, 1) == (0, 2)
    assert timed.digest() != whole.digest()


REFUSED = {
    ("Charades_v1_train.csv", HEADER + "\na,,,,,,,,,c001 1.0,5\n"): r"train.csv:3: 'c001 1.0' is not an action",
    (
        "Charades_v1_train.csv",
        HEADER + "a,,,,,,,,,c157 1 2,5\n",
    ): r"train.csv:2: no class 'c157': they are c000 to c002",
    ("Charades_v1_train.csv", HEADER + "a,,,,,,,,,001 1 2,5\n"): r"train.csv:2: no class '001'",
    ("Charades_v1_train.csv", HEADER + "a,,,,,,,,,c001 1 x,5\n"): r"train.csv:2: 'c001 1 x' is not an action",
    ("Charades_v1_train.csv", TRAIN + ",,,,,,,,,,5\n"): r"train.csv:5: the id is empty",  # a script has two lines
    ("Charades_v1_train.csv", TRAIN + "a,b\n"): r"train.csv:5: 2 fields where the header has 11",
    ("Charades_v1_train.csv", "id,length\n"): r"train.csv:1: no column 'actions'",
    ("Charades_v1_train.csv", HEADER): r"train.csv: names no videos",
    ("Charades_v1_test.csv", VAL + "46GP8,,,,,,,,,,5\n"): r"test.csv:3: 46GP8 .*train.csv:2",
    ("Charades_v1_classes.txt", CLASSES + "c004 Skipped\n"): r"classes.txt:4: 'c003 CLASS' is expected",
    ("Charades_v1_classes.txt", "c000 One\n"): r"classes.txt: 1 classes where this data set has 3",
}


@pytest.mark.parametrize(("file", "text"), REFUSED)
def test_wrong_files_are_refused_with_their_line(
    file: str, text: str, published: None, write: Write, tmp_path: Path
) -> None:
    write(f"Charades/{file}", text)
    with pytest.raises(DataError, match=REFUSED[file, text]):
        from_csv(root=str(tmp_path), num_classes=3)
