"""SlowFast's frame lists."""

from pathlib import Path

import pytest

from nlnet.data.annotations.frame_lists import from_frame_lists
from nlnet.errors import DataError
from tests.data.annotations.conftest import Write, as_rows

HEADER = "original_vido_id video_id frame_id path labels\n"
# Class 3 in frames 1 to 2 and 4, class 5 in frame 2; the second video has none.
TRAIN = HEADER + "".join(
    f'A{video} {video} {frame} A{video}/A{video}-{frame + 1:06d}.jpg "{labels}"\n'
    for video, frames in enumerate((["", "3", "3,5", "", "3"], ["", ""]))
    for frame, labels in enumerate(frames)
)


def test_videos_labels_and_the_classes_of_each_frame(write: Write, tmp_path: Path) -> None:
    write("train.csv", TRAIN)
    write("val.csv", HEADER + 'B 0 0 B/B-000001.jpg "0"\nB 0 1 B/B-000002.jpg "1"\n')
    annotations = from_frame_lists(root=str(tmp_path), frames="rgb", num_classes=6, frames_per_second=8)
    assert as_rows(annotations.train, tmp_path) == [("A0", (3, 5), "rgb/A0"), ("A1", (), "rgb/A1")]
    assert as_rows(annotations.val, tmp_path) == [("B", (0, 1), "rgb/B")]
    assert len(annotations.classes) == 6
    assert not annotations.val.videos[0].actions
    shown = [{3} if frame in (1, 2, 4) else set() for frame in range(5)]
    shown[2].add(5)
    video = annotations.train.videos[0]
    for first in range(5):
        for last in range(first, 5):
            expected = tuple(sorted(set().union(*shown[first : last + 1])))
            assert video.label_between(first / 8, (last + 1) / 8) == expected  # as the clip reader asks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.csv:1: the header of a frame list is expected"),
        ("path label\na 0\n", "train.csv:1: the header of a frame list"),
        (HEADER + "A 0 0 A/1.jpg\n", "train.csv:2: 4 fields where the header has 5"),
        (HEADER + 'A 0 0 A/1.jpg "x"\n', "train.csv:2: the labels 'x' are not whole numbers"),
        (HEADER + 'A 0 0 A/1.jpg "-1"\n', "train.csv:2: label -1 is negative"),
        (HEADER + 'A 0 0 A/1.jpg "7"\n', "7 classes|8 classes|label 7, but there are 6|data set has 6"),
        (HEADER, "train.csv: names no videos"),
    ],
)
def test_what_is_refused(text: str, message: str, write: Write, tmp_path: Path) -> None:
    write("train.csv", text)
    write("val.csv", TRAIN)
    with pytest.raises(DataError, match=message):
        from_frame_lists(root=str(tmp_path), num_classes=6)
