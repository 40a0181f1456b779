"""UCF-101 and HMDB-51: three published splits each."""

from pathlib import Path

import pytest

from nlnet.data.annotations import find_missing, hmdb51, ucf101
from nlnet.errors import ConfigError, DataError
from tests.data.annotations.conftest import Write, as_rows


@pytest.fixture
def ucf(write: Write) -> None:
    write("ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n")
    for split in (1, 2):
        write(
            f"ucfTrainTestlist/trainlist0{split}.txt",
            f"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c0{split}.avi 1\r\nYoYo/v_YoYo_g08_c01.avi 3\r\n",
        )
        write(f"ucfTrainTestlist/testlist0{split}.txt", "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n")
    write("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi")
    write("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.mp4")
    write("UCF-101/YoYo/v_YoYo_g08_c01.avi")
    write("UCF-101/HandstandPushups/v_HandstandPushups_g01_c01.avi")


@pytest.mark.parametrize(("split", "extension"), [(1, "avi"), (2, "mp4")])
def test_ucf101(split: int, extension: str, ucf: None, tmp_path: Path) -> None:
    annotations = ucf101.from_splits(root=str(tmp_path), split=split, num_classes=3)
    assert annotations.classes == ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
    first = f"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c0{split}"
    assert as_rows(annotations.train, tmp_path) == [
        (f"{first}.avi", 0, f"UCF-101/{first}.{extension}"),
        ("YoYo/v_YoYo_g08_c01.avi", 2, "UCF-101/YoYo/v_YoYo_g08_c01.avi"),
    ]
    (row,) = as_rows(annotations.val, tmp_path)
    name = "HandstandPushups/v_HandStandPushups_g01_c01.avi"
    assert row == (name, 1, "UCF-101/HandstandPushups/v_HandstandPushups_g01_c01.avi")
    assert find_missing(annotations.val) == []


UCF_REFUSED = {
    "classInd.txt": {
        "0 ApplyEyeMakeup\n": r"classInd.txt:1: '1 CLASS' is expected here, not '0 ApplyEyeMakeup'",
        "1 ApplyEyeMakeup\n3 YoYo\n": r"classInd.txt:2: '2 CLASS' is expected",
        "1 ApplyEyeMakeup\n": r"classInd.txt: 1 classes where this data set has 3",
    },
    "trainlist01.txt": {
        "\nYoYo/a.avi 2\n": r"trainlist01.txt:2: class 2, but YoYo is number 3",
        "Yoyoo/a.avi 3\n": r"trainlist01.txt:1: no such class 'yoyoo'; did you mean 'yoyo'",
        "a.avi 3\n": r"trainlist01.txt:1: not 'CLASS/VIDEO'",
        "": r"trainlist01.txt: names no videos",
    },
    "testlist01.txt": {"YoYo/v_YoYo_g08_c01.avi\n": r"testlist01.txt:1: .*trainlist01.txt:2"},
}


@pytest.mark.parametrize(
    ("file", "text", "message"), [(file, *case) for file, cases in UCF_REFUSED.items() for case in cases.items()]
)
def test_wrong_ucf101_files(file: str, text: str, message: str, ucf: None, write: Write, tmp_path: Path) -> None:
    write(f"ucfTrainTestlist/{file}", text)
    with pytest.raises(DataError, match=message):
        ucf101.from_splits(root=str(tmp_path), num_classes=3)


FIRST = "#20_Rhythm_Catch_f_cm_np1_ba_med_1.avi"


@pytest.fixture
def hmdb(write: Write) -> None:
    splits = "testTrainMulti_7030_splits"
    write(f"{splits}/catch_test_split1.txt", f"{FIRST} 1 \n(a)_b!_catch;x.avi 2 \nc.avi 0 \n")
    write(f"{splits}/catch_test_split2.txt", f"{FIRST} 2 \nc.avi 1 \n")
    write(f"{splits}/brush_hair_test_split1.txt", "d.avi 1 \n")
    write(f"{splits}/brush_hair_test_split2.txt", "d.avi 0 \n")
    for file in (FIRST, "(a)_b!_catch;x.mp4", "c.avi"):
        write(f"hmdb51_org/catch/{file}")
    write("hmdb51_org/brush_hair/d.avi")


def test_hmdb51(hmdb: None, tmp_path: Path) -> None:
    annotations = hmdb51.from_splits(root=str(tmp_path), num_classes=2)
    assert annotations.classes == ("brush_hair", "catch")
    assert as_rows(annotations.train, tmp_path) == [
        ("brush_hair/d.avi", 0, "hmdb51_org/brush_hair/d.avi"),
        (f"catch/{FIRST}", 1, f"hmdb51_org/catch/{FIRST}"),
    ]
    (row,) = as_rows(annotations.val, tmp_path)
    assert row == ("catch/(a)_b!_catch;x.avi", 1, "hmdb51_org/catch/(a)_b!_catch;x.mp4")
    second = hmdb51.from_splits(root=str(tmp_path), split=2, num_classes=2)
    assert [video.name for video in second.train.videos] == ["catch/c.avi"]
    assert [video.name for video in second.val.videos] == [f"catch/{FIRST}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.avi 1\nb.avi 3\n", r"catch_test_split1.txt:2: not 'VIDEO FLAG'"),
        ("a.avi\n", r"catch_test_split1.txt:1: not 'VIDEO FLAG'"),
        ("a.avi 1\nb.avi 2\na.avi 2\n", r"catch_test_split1.txt:3: .*catch_test_split1.txt:1; remove"),
    ],
)
def test_wrong_hmdb51_files(text: str, message: str, hmdb: None, write: Write, tmp_path: Path) -> None:
    write("testTrainMulti_7030_splits/catch_test_split1.txt", text)
    with pytest.raises(DataError, match=message):
        hmdb51.from_splits(root=str(tmp_path), num_classes=2)


def test_other_splits_and_other_numbers_of_classes_are_refused(ucf: None, hmdb: None, tmp_path: Path) -> None:
    for read in (ucf101.from_splits, hmdb51.from_splits):
        with pytest.raises(ConfigError, match=r"data.annotations.split must be 1, 2 or 3, not 4"):
            read(root=str(tmp_path), split=4)
        with pytest.raises(DataError, match=r"[23] classes where this data set has (101|51)"):
            read(root=str(tmp_path))
    with pytest.raises(DataError, match=r"no files CLASS_test_split3.txt"):
        hmdb51.from_splits(root=str(tmp_path), split=3)
    with pytest.raises(DataError, match=r"gone: no such folder .*data.annotations.lists"):
        hmdb51.from_splits(root=str(tmp_path), lists="gone")
