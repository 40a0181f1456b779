"""Lists with a number of frames, several labels, other separators and containers."""

from pathlib import Path

import pytest

from nlnet.data.annotations import from_lists, read_list
from nlnet.data.annotations.lists import ListFolders, ListForm, iterate_list
from nlnet.errors import DataError
from tests.data.annotations.conftest import Write, as_rows

SEVERAL = ListForm(several_labels=True)


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        # TSM and gluon-cv: the number of frames is skipped.
        ("a/v_x_g01_c01 164 0\nb c 20 12\n", ListForm(), [("a/v_x_g01_c01", 0), ("b c", 12)]),
        ("a 10 0\nb 20 1\n", ListForm(frames=False), [("a 10", 0), ("b 20", 1)]),
        ("a 10 0\nb.mp4 1\n", ListForm(), [("a 10", 0), ("b.mp4", 1)]),  # not all lines have one
        ("clip 1.mp4 0\nclip 2.mp4 1\n", ListForm(), [("clip 1.mp4", 0), ("clip 2.mp4", 1)]),
        ("a,10,0\nb c,20,1\n", ListForm(separator=",", frames=True), [("a", 0), ("b c", 1)]),
        ("a.mp4;0\nb.mp4; 1\n", ListForm(separator=";"), [("a.mp4", 0), ("b.mp4", 1)]),
        # MMAction2: any number of labels.
        ("a b.mp4 3 1\nc.mp4 0\nd.mp4\n", SEVERAL, [("a b.mp4", (1, 3)), ("c.mp4", (0,)), ("d.mp4", ())]),
        ("a 99 3 1\nb 50 2\n", ListForm(several_labels=True, frames=True), [("a", (1, 3)), ("b", (2,))]),
        ('path,label\na,"3,1"\nb,\nc,2\n', SEVERAL, [("a", (1, 3)), ("b", ()), ("c", (2,))]),
    ],
)
def test_forms(text: str, form: ListForm, expected: list[tuple[str, object]], write: Write, tmp_path: Path) -> None:
    videos = read_list(str(write("list.txt", text)), root=str(tmp_path), form=form)
    assert [(video.name, video.label) for video in videos.videos] == expected


def test_a_path_that_is_there_with_its_number_is_no_number_of_frames(write: Write, tmp_path: Path) -> None:
    path = str(write("list.txt", "clip 10 0\nclip 20 1\n"))
    assert [entry.name for entry in iterate_list(path, root=str(tmp_path))] == ["clip", "clip"]
    (tmp_path / "clip 10").mkdir()
    assert [entry.name for entry in iterate_list(path, root=str(tmp_path))] == ["clip 10", "clip 20"]


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        ("a.mp4 10 0\nb.mp4 1\n", ListForm(frames=True), "list.txt:2: not 'path frames label'"),
        ("a.mp4 0\n", ListForm(separator=","), "list.txt:1: no label"),
        ("a.mp4 0\nb.mp4 -1\n", SEVERAL, "list.txt:2: label -1 is negative"),
        ("a\n", ListForm(several_labels=True, frames=True), "list.txt:1: no number of frames"),
    ],
)
def test_refused_forms(text: str, form: ListForm, message: str, write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_list(str(write("list.txt", text)), root=str(tmp_path), form=form)


def test_any_container_and_folders_of_their_own(write: Write, tmp_path: Path) -> None:
    write("train.txt", "a/1.mp4 0\n2 1\nb/gone 0\nc/same 1\n")
    write("val.txt", "x/y/z/3.avi 0\n")
    for file in ("t/a/1.webm", "t/k/2.mkv", "v/3.mp4", "t/a/same.mp4", "t/c/same.mp4"):
        write(file)
    annotations = from_lists(
        root=str(tmp_path), train="train.txt", val="val.txt", folders=ListFolders("t", "v", any_container=True)
    )
    assert as_rows(annotations.train, tmp_path) == [
        ("a/1.mp4", 0, "t/a/1.webm"),
        ("2", 1, "t/k/2.mkv"),
        ("b/gone", 0, "t/b/gone"),
        ("c/same", 1, "t/c/same.mp4"),
    ]
    assert as_rows(annotations.val, tmp_path) == [("x/y/z/3.avi", 0, "v/3.mp4")]
