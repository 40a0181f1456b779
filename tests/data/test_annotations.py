"""Lists and folders: what is accepted, and that each refusal names the file, the line and the mend."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nlnet.data.annotations import Annotations, VideoList, find_missing, from_folder, from_lists, read_list
from nlnet.errors import ConfigError, DataError

WriteList = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> WriteList:
    def write(content: str | bytes, name: str = "list.txt") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


CLASSES = ["walk", "run", "sit still"]

ACCEPTED = {
    "space": "a.mp4 0\nb.mp4 2\n",
    "tab": "a.mp4\t0\nb.mp4\t2\n",
    "no newline at the end": "a.mp4 0\nb.mp4 2",
    "windows": b"\xef\xbb\xbfa.mp4 0\r\nb.mp4 2\r\n",
    "blank lines and spaces": "\n  a.mp4   0  \n\n\nb.mp4 2\n\n",
    "csv": "path,label\na.mp4,0\nb.mp4,2\n",
    "csv, more columns, other order": "Label, seconds ,Path\n0,3.5,a.mp4\n2,,b.mp4\n",
    "csv, quotes": 'path,label\n"a.mp4","0"\nb.mp4,"2"\n',
    "csv, windows": b"\xef\xbb\xbfpath,label\r\na.mp4,0\r\nb.mp4,2\r\n",
    "csv, class names": "path,label\na.mp4,walk\nb.mp4,sit still\n",
    "tsv": "path\tlabel\na.mp4\t0\nb.mp4\tsit still\n",
}


@pytest.mark.parametrize("form", ACCEPTED)
def test_accepted_forms(form: str, write: WriteList, tmp_path: Path) -> None:
    path = write(ACCEPTED[form])
    videos = read_list(path, root=str(tmp_path / "videos"), classes=CLASSES)
    assert [(video.name, video.label) for video in videos.videos] == [("a.mp4", 0), ("b.mp4", 2)]
    assert [video.path for video in videos.videos] == [str(tmp_path / "videos" / name) for name in ("a.mp4", "b.mp4")]
    assert videos.classes == tuple(CLASSES)
    assert videos.source == path
    assert len(videos) == 2


@pytest.mark.parametrize(
    "name", ["with space.mp4", "a 1.mp4", "ünïcode/日本.mp4", "it's (1).mp4", "-dash.mp4", "a,b.mp4", "C#.mp4"]
)
def test_paths_may_contain_anything(name: str, write: WriteList, tmp_path: Path) -> None:
    for content in (f"{name} 1\n", f'path,label\n"{name}",1\n', f"path\tlabel\n{name}\t1\n"):
        (video,) = read_list(write(content), root=str(tmp_path)).videos
        assert (video.name, video.label, video.path) == (name, 1, str(tmp_path / name))


def test_absolute_paths_stay(write: WriteList, tmp_path: Path) -> None:
    (video,) = read_list(write(f"{tmp_path}/x/../a.mp4 0"), root="/elsewhere").videos
    assert video.path == str(tmp_path / "a.mp4")


def test_classes_are_numbered_where_they_have_no_names(write: WriteList) -> None:
    assert read_list(write("a 0\nb 3\n"), root="/").classes == ("class_0", "class_1", "class_2", "class_3")


REFUSED = {
    "empty": ("", r"list.txt: .*no videos", None),
    "blank": ("\n \n", r"list.txt: .*no videos", None),
    "header only": ("path,label\n", r"list.txt: .*no videos", None),
    "no label": ("a.mp4 0\nb.mp4\n", r"list.txt:2: no label in 'b.mp4'; write 'path label'", None),
    "comma": ("a.mp4,1\n", r"list.txt:1: no label .*'path,label'", None),
    "float": ("a.mp4 0\nb.mp4 1.0\n", r"list.txt:2: label '1.0' is not a whole number", None),
    "name without classes": ("a.mp4 walk\n", r"list.txt:1: label 'walk' .*data.annotations.classes=", None),
    "unknown name": ("a.mp4 0\n\nb.mp4 wakl\n", r"list.txt:3: label 'wakl' .*did you mean 'walk'\?", CLASSES),
    "no such name": ("a.mp4 juggle\n", r"list.txt:1: label 'juggle' is neither", CLASSES),
    "negative": ("a.mp4 0\nb.mp4 -1\n", r"list.txt:2: label -1 is negative; labels start at 0", None),
    "from 1": ("a.mp4 1\nb.mp4 3\n", r"list.txt:2: label 3, but there are 3 classes, 0 to 2; labels start", CLASSES),
    "out of range": ("a.mp4 1\nb.mp4 7\n", r"list.txt:2: label 7, but there are 3 classes, 0 to 2; mend", CLASSES),
    "twice": ("a.mp4 0\nb.mp4 1\n./a.mp4 0\n", r"list.txt:3: ./a.mp4 is already on line 1", None),
    "csv, missing field": ("path,label\na.mp4,0\nb.mp4\n", r"list.txt:3: 1 fields where the header has 2", None),
    "csv, unquoted comma": ("path,label\na,b.mp4,0\n", r"list.txt:2: 3 fields where .*double quotes", None),
    "csv, empty label": ("path,label\na.mp4,\n", r"list.txt:2: the label is empty", None),
    "csv, empty path": ("path,label\n,1\n", r"list.txt:2: the path is empty", None),
    "other encoding": (b"caf\xe9.mp4 0\n", r"list.txt: not UTF-8 text", None),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_lists_name_file_line_and_mend(case: str, write: WriteList) -> None:
    content, message, classes = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read_list(write(content), root="/", classes=classes)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.txt: cannot be read: No such file"):
        read_list(str(tmp_path / "gone.txt"), root="/")
    with pytest.raises(DataError, match="cannot be read"):
        read_list(str(tmp_path), root="/")


class TestFromLists:
    def test_relative_files_and_classes(self, write: WriteList, tmp_path: Path) -> None:
        write("a 0\nb 2\n", "train.txt")
        val = write("c 1\n", "val.txt")
        write("walk\r\nrun\r\nsit still\r\n", "classes.txt")
        annotations = from_lists(root=str(tmp_path), train="train.txt", val=val, classes="classes.txt")
        assert annotations.classes == annotations.train.classes == annotations.val.classes == tuple(CLASSES)
        assert [video.label for video in annotations.train.videos] == [0, 2]
        assert [video.path for video in annotations.val.videos] == [str(tmp_path / "c")]

    def test_without_classes_both_lists_count(self, write: WriteList, tmp_path: Path) -> None:
        write("a 0\nb 2\n", "train.txt")
        write("c 4\n", "val.txt")
        annotations = from_lists(root=str(tmp_path), train="train.txt", val="val.txt")
        assert annotations.train.classes == annotations.val.classes
        assert len(annotations.classes) == 5

    def test_a_file_in_both_lists(self, write: WriteList, tmp_path: Path) -> None:
        write("a 0\nb 0\n", "train.txt")
        write("c 0\n\nx/../b 0\n", "val.txt")
        with pytest.raises(DataError, match=r"val.txt:3: x/../b is also a training video \(.*train.txt:2\)"):
            from_lists(root=str(tmp_path), train="train.txt", val="val.txt")

    def test_no_root(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"gone: no such folder; set data.root"):
            from_lists(root=str(tmp_path / "gone"), train="t", val="v")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"classes.txt:1: empty"),
            ("a\n\nb\n", r"classes.txt:2: empty"),
            ("a\nb\na\n", r"classes.txt:3: .*line 1"),
        ],
    )
    def test_bad_classes_files(self, content: str, message: str, write: WriteList, tmp_path: Path) -> None:
        for name in ("train.txt", "val.txt"):
            write(f"{name}.mp4 0\n", name)
        write(content, "classes.txt")
        with pytest.raises(DataError, match=message):
            from_lists(root=str(tmp_path), train="train.txt", val="val.txt", classes="classes.txt")


def make_tree(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return str(root)


def names(videos: VideoList) -> list[str]:
    return [video.name for video in videos.videos]


class TestFromFolder:
    def test_two_splits(self, tmp_path: Path) -> None:
        root = make_tree(
            tmp_path, "train/run/b.MP4", "train/run/a.webm", "train/eat/c.avi", "val/run/d.mov", "val/eat/e.mkv",
            "train/run/.hidden.mp4", "train/run/notes.txt", "train/.cache/x.mp4", "train/readme.mp4", "test/run/f.mp4",
        )  # fmt: skip
        annotations = from_folder(root=root)
        assert annotations.classes == ("eat", "run")
        assert names(annotations.train) == ["train/eat/c.avi", "train/run/a.webm", "train/run/b.MP4"]
        assert names(annotations.val) == ["val/eat/e.mkv", "val/run/d.mov"]
        assert [video.label for video in annotations.train.videos] == [0, 1, 1]
        assert annotations.train.videos[0].path == str(tmp_path / "train/eat/c.avi")

    def split(self, root: str, **options: float) -> Annotations:
        annotations = from_folder(root=root, **options)
        assert not set(names(annotations.train)) & set(names(annotations.val))
        return annotations

    def test_one_folder_is_split_by_class(self, tmp_path: Path) -> None:
        sizes = {"a": 1, "b": 2, "c": 3, "d": 10, "e": 101}
        root = make_tree(tmp_path, *(f"{name}/{k}.mp4" for name, size in sizes.items() for k in range(size)))
        annotations = self.split(root, val_fraction=0.2)
        held_out = [sum(video.label == label for video in annotations.val.videos) for label in range(5)]
        assert held_out == [0, 1, 1, 2, 20]
        assert len(annotations.train) + len(annotations.val) == sum(sizes.values())
        assert annotations.classes == tuple("abcde")
        assert self.split(root, val_fraction=0.2) == annotations
        assert names(self.split(root, val_fraction=0.2, seed=1).val) != names(annotations.val)
        # Even the largest share leaves a training video in each class.
        assert {video.label for video in self.split(root, val_fraction=0.99).train.videos} == set(range(5))

    def test_a_new_video_moves_no_other(self, tmp_path: Path) -> None:
        root = make_tree(tmp_path, *(f"a/{k}.mp4" for k in range(20)))
        before = set(names(self.split(root).val))
        make_tree(tmp_path, "a/new.mp4")
        after = set(names(self.split(root).val))
        assert len(before - after) <= 1
        assert len(after) == 4

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ((), r"no class folders; expected ROOT/<class>/\*.mp4, or ROOT/train"),
            (("a.mp4", "b.mp4"), "no class folders; expected"),
            (("a/x.txt", "b/x.mp4", "b/y.mp4"), r"/a: no videos; expected .*\.webm.*or remove the folder"),
            (("train/a/x.mp4", "train/b/y.mp4"), r"/train: found, but no .*/val: add it, or set data.root=.*/train"),
            (("train/a/x.mp4", "val/a/y.mp4", "val/b/z.mp4"), r"val/b: no such class in .*train"),
            (("train/a/x.mp4", "val/y.mp4"), r"/val: no class folders"),
            (("a/x.mp4", "b/y.mp4"), "single video"),
        ],
    )
    def test_other_layouts_are_refused(self, files: tuple[str, ...], message: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=message):
            from_folder(root=make_tree(tmp_path, *files))

    def test_no_root_and_bad_fraction(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such folder"):
            from_folder(root=str(tmp_path / "gone"))
        root = make_tree(tmp_path, "a/1.mp4", "a/2.mp4")
        for fraction in (0.0, 1.0, -1.0):
            with pytest.raises(ConfigError, match="val_fraction"):
                from_folder(root=root, val_fraction=fraction)


def test_digest_is_of_names_and_labels_not_of_places(write: WriteList, tmp_path: Path) -> None:
    def digest(content: str, **options: object) -> str:
        return read_list(write(content, f"{abs(hash(content))}.txt"), root=options.pop("root", "/"), **options).digest()

    first = digest("a 0\nb 1\n")
    assert len(first) == 64
    assert digest("a 0\nb 1\n", root="/elsewhere") == first
    assert digest("path,label\na,0\nb,1\n") == first
    different = [digest("a 0\nb 0\n"), digest("b 1\na 0\n"), digest("a 0\n"), digest("a 0\nb 1\n", classes=["x", "y"])]
    assert len({first, *different}) == 5


def test_find_missing_looks_at_each_file(write: WriteList, tmp_path: Path) -> None:
    make_tree(tmp_path, "good.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    videos = read_list(write("good.mp4 0\ngone.mp4 0\nempty.mp4 0\nfolder.mp4 0\ndangling.mp4 0\n"), root=str(tmp_path))
    assert [(video.name, reason) for video, reason in find_missing(videos)] == [
        ("gone.mp4", "no such file"),
        ("empty.mp4", "the file is empty (0 bytes)"),
        ("folder.mp4", "not a file"),
        ("dangling.mp4", "no such file"),
    ]


def test_real_lists(test_videos: Path) -> None:
    root = test_videos / "real_clips"
    annotations = from_lists(root=str(root), train="train.csv", val="val.csv", classes="classes.txt")
    assert (len(annotations.train), len(annotations.val), len(annotations.classes)) == (32, 8, 8)
    assert not find_missing(annotations.train)
    assert not find_missing(annotations.val)
    assert all(Path(video.path).stem.startswith(annotations.classes[video.label]) for video in annotations.val.videos)
