"""Odd and wrong lists of videos, each with what becomes of it. Data for the tests and for ``scripts/faults``.

Each is read right, or refused in one line that names the file, the line where there is one, and the mend.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlnet.config.preflight import check_data, check_files, missing_classes
from nlnet.data.annotations import from_lists
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.engine.settings import Settings
from nlnet.errors import NlnetError

VIDEOS = ["a.mp4", "b.mp4", "c.mp4", "my clip.mp4", "vidéo 日本.mp4", "sub/d.mp4"]
VAL = "sub/d.mp4 0\n"


def _no_more(root: Path) -> None:
    """Nothing to do beside the lists."""


@dataclass(frozen=True)
class Mutation:
    """A training list and what becomes of it.

    Args:
        train: the list's text or bytes.
        reads: name and label of each training video, where the list is right.
        says: what the refusal, or the warning of a list that is read, must contain.
        val, classes: the other files, where they matter; no file of classes by default.
        prepare: changes the folder before the lists are read.
        root: what data.root is, if not the folder itself.
    """

    name: str
    train: str | bytes
    reads: Sequence[tuple[str, int]] | None = None
    says: Sequence[str] = ()
    val: str | bytes = VAL
    classes: str | None = None
    prepare: Callable[[Path], object] = _no_more
    root: str = ""


def _loop(root: Path) -> None:
    (root / "loop.mp4").symlink_to("loop.mp4")


def _list_that_loops(root: Path) -> None:
    (root / "train.csv").unlink()
    (root / "train.csv").symlink_to("train.csv")


def _no_list(root: Path) -> None:
    (root / "train.csv").unlink()


def _folder_for_list(root: Path) -> None:
    (root / "train.csv").unlink()
    (root / "train.csv").mkdir()


A_B = [("a.mp4", 0), ("b.mp4", 1)]
RIGHT = [
    Mutation("path and label", "a.mp4 0\nb.mp4 1\n", A_B),
    Mutation("a byte-order mark", b"\xef\xbb\xbfa.mp4 0\nb.mp4 1\n", A_B),
    Mutation("line ends of Windows", "a.mp4 0\r\nb.mp4 1\r\n", A_B),
    Mutation("line ends of old Macs", "a.mp4 0\rb.mp4 1\r", A_B),
    Mutation("no line end behind the last line", "a.mp4 0\nb.mp4 1", A_B),
    Mutation("blanks behind lines", "a.mp4 0   \nb.mp4 1\t\n", A_B),
    Mutation("blanks in front of lines", "  a.mp4 0\n\tb.mp4 1\n", A_B),
    Mutation("empty lines", "\n\na.mp4 0\n\n   \nb.mp4 1\n\n", A_B),
    Mutation("tabs", "a.mp4\t0\nb.mp4\t1\n", A_B),
    Mutation("several blanks", "a.mp4    0\nb.mp4    1\n", A_B),
    Mutation("CSV with a header", "path,label\na.mp4,0\nb.mp4,1\n", A_B),
    Mutation("CSV with its columns the other way round", "label,path\n0,a.mp4\n1,b.mp4\n", A_B),
    Mutation("CSV with more columns", "id,path,label,url\n1,a.mp4,0,x\n2,b.mp4,1,y\n", A_B),
    Mutation("a header in capitals", "Path,Label\na.mp4,0\nb.mp4,1\n", A_B),
    Mutation("TSV with a header", "path\tlabel\na.mp4\t0\nb.mp4\t1\n", A_B),
    Mutation("blanks behind commas", "path, label\na.mp4, 0\nb.mp4, 1\n", A_B),
    Mutation("quotes in CSV", 'path,label\n"my clip.mp4",0\n"b.mp4",1\n', [("my clip.mp4", 0), ("b.mp4", 1)]),
    Mutation("quotes around a path", '"my clip.mp4" 0\nb.mp4 1\n', [("my clip.mp4", 0), ("b.mp4", 1)]),
    Mutation("spaces in a path", "my clip.mp4 0\nb.mp4 1\n", [("my clip.mp4", 0), ("b.mp4", 1)]),
    Mutation("letters of many alphabets", "vidéo 日本.mp4 0\nb.mp4 1\n", [("vidéo 日本.mp4", 0), ("b.mp4", 1)]),
    Mutation("absolute paths", "{root}/a.mp4 0\n{root}/b.mp4 1\n", [("{root}/a.mp4", 0), ("{root}/b.mp4", 1)]),
    Mutation("paths with a dot", "./a.mp4 0\nsub/../b.mp4 1\n", [("./a.mp4", 0), ("sub/../b.mp4", 1)]),
    Mutation("names for labels", "a.mp4 run\nb.mp4 walk\n", A_B, classes="run\nwalk\n"),
    Mutation("zeros in front of labels", "a.mp4 00\nb.mp4 01\n", A_B),
    Mutation("blanks behind class names", "a.mp4 run\nb.mp4 walk\n", A_B, classes="run \nwalk\n\n"),
    Mutation("line ends of Windows in the classes", "a.mp4 run\nb.mp4 walk\n", A_B, classes="run\r\nwalk\r\n"),
    Mutation("a class without videos", "a.mp4 0\nb.mp4 1\n", A_B, ["warning", "jump", "train.csv"], classes="run\nwalk\njump\n"),
    Mutation("a gap in the labels", "a.mp4 0\nb.mp4 2\n", [("a.mp4", 0), ("b.mp4", 2)], ["warning", "train.csv", "class_1", "gap"]),
    Mutation("a class in the validation list alone", "a.mp4 0\nb.mp4 1\n", A_B, ["warning", "train.csv", "class_2"], val="sub/d.mp4 2\n"),
    Mutation("one video missing of many", "a.mp4 0\nb.mp4 1\nno.mp4 1\n", [*A_B, ("no.mp4", 1)], ["1 of 3 training videos", "no.mp4", "no such file"]),
]  # fmt: skip
WRONG = [
    Mutation("an empty file", "", says=["train.csv: the list has no videos", "path label"]),
    Mutation("blanks alone", "\n  \n\t\n", says=["train.csv: the list has no videos"]),
    Mutation("a header alone", "path,label\n", says=["train.csv: the list has no videos"]),
    Mutation("an empty validation list", "a.mp4 0\nb.mp4 1\n", says=["val.csv: the list has no videos"], val=""),
    Mutation("commas without a header", "a.mp4,0\nb.mp4,1\n", says=["train.csv:1", "path,label"]),
    Mutation("commas without a header, and spaces", "my clip.mp4,0\nb.mp4,1\n", says=["train.csv:1", "path,label"]),
    Mutation("a header with other names", "file,class\na.mp4,0\n", says=["train.csv:1", "path,label"]),
    Mutation("no label", "a.mp4 0\nb.mp4\n", says=["train.csv:2: no label", "path label"]),
    Mutation("an empty label", "path,label\na.mp4,\n", says=["train.csv:2: the label is empty"]),
    Mutation("an empty path", "path,label\n,0\n", says=["train.csv:2: the path is empty"]),
    Mutation("a field too many", "path,label\na.mp4,0,x\n", says=["train.csv:2", "3 fields", "double quotes"]),
    Mutation("a field too few", "path,label,id\na.mp4,0\n", says=["train.csv:2", "2 fields"]),
    Mutation("a comma in a path", "path,label\nmy,clip.mp4,0\n", says=["train.csv:2", "double quotes"]),
    Mutation("a quote that is not closed", 'path,label\n"a.mp4,0\n', says=["train.csv:2", "double quotes"]),
    Mutation("a name for a label, and no classes", "a.mp4 run\nb.mp4 walk\n", says=["train.csv:1", "classes.txt"]),
    Mutation("a name with a typo", "a.mp4 run\nb.mp4 wakl\n", says=["train.csv:2", "did you mean 'walk'"], classes="run\nwalk\n"),
    Mutation("a name like no other", "a.mp4 run\nb.mp4 xyz\n", says=["train.csv:2", "classes file"], classes="run\nwalk\n"),
    Mutation("a name in capitals", "a.mp4 Run\nb.mp4 walk\n", says=["train.csv:1", "did you mean 'run'"], classes="run\nwalk\n"),
    Mutation("a fraction for a label", "a.mp4 0\nb.mp4 1.5\n", says=["train.csv:2", "1.5", "whole number"]),
    Mutation("a label with a point", "a.mp4 0.0\nb.mp4 1.0\n", says=["train.csv:1", "0.0", "whole number"]),
    Mutation("label -1", "a.mp4 0\nb.mp4 -1\n", says=["train.csv:2: label -1 is negative", "start at 0"]),
    Mutation("labels from 1", "a.mp4 1\nb.mp4 2\n", says=["train.csv:1", "label 0", "subtract"], val="sub/d.mp4 1\n"),
    Mutation("labels from 1, with classes", "a.mp4 1\nb.mp4 2\n", says=["train.csv:2", "subtract 1"], classes="run\nwalk\n"),
    Mutation("a label far too large", "a.mp4 0\nb.mp4 77\n", says=["train.csv:2", "2 classes"], classes="run\nwalk\n"),
    Mutation("a line twice", "a.mp4 0\nb.mp4 1\na.mp4 0\n", says=["train.csv:3", "line 1", "remove one"]),
    Mutation("a video with two labels", "a.mp4 0\nb.mp4 1\na.mp4 1\n", says=["train.csv:3", "line 1"]),
    Mutation("a video twice, written differently", "a.mp4 0\nb.mp4 1\n./a.mp4 0\n", says=["train.csv:3", "line 1"]),
    Mutation("a video for training and validation", "a.mp4 0\nb.mp4 1\n", says=["val.csv:1", "train.csv:2", "remove it"], val="b.mp4 1\n"),
    Mutation("all videos missing", "no.mp4 0\nnone.mp4 1\n", says=["train.csv", "no.mp4", "data.root"]),
    Mutation("too many videos missing", "a.mp4 0\nb.mp4 1\nno.mp4 1\nnone.mp4 1\n", says=["train.csv", "50.0%", "data.max_bad_fraction", "no.mp4"]),
    Mutation("all videos for validation missing", "a.mp4 0\nb.mp4 1\n", says=["val.csv", "no.mp4", "data.root"], val="no.mp4 0\n"),
    Mutation("paths from another folder", "videos/a.mp4 0\nvideos/b.mp4 1\n", says=["train.csv", "videos/a.mp4", "data.root"]),
    Mutation("a link to itself", "loop.mp4 0\nb.mp4 1\n", says=["train.csv", "loop.mp4", "cannot be read"], prepare=_loop),
    Mutation("a folder for a video", "sub 0\nb.mp4 1\n", says=["train.csv", "sub", "not a file"]),
    Mutation("a byte 0 in a path", "a\0.mp4 0\nb.mp4 1\n", says=["train.csv", "null byte"]),
    Mutation("an endless path", f"{'x' * 5000}.mp4 0\nb.mp4 1\n", says=["train.csv", "too long"]),
    Mutation("a list that is not there", "", says=["train.csv: cannot be read", "No such file"], prepare=_no_list),
    Mutation("a folder for a list", "", says=["train.csv: cannot be read", "directory"], prepare=_folder_for_list),
    Mutation("a list that links to itself", "", says=["train.csv: cannot be read"], prepare=_list_that_loops),
    Mutation("a root that is not there", "a.mp4 0\n", says=["no such folder", "data.root"], root="gone"),
    Mutation("a root that is a file", "a.mp4 0\n", says=["no such folder", "data.root"], root="a.mp4"),
    Mutation("Latin-1", "vidéo.mp4 0\nb.mp4 1\n".encode("latin-1"), says=["train.csv: not UTF-8", "save it as UTF-8"]),
    Mutation("UTF-16", "a.mp4 0\nb.mp4 1\n".encode("utf-16"), says=["train.csv: not UTF-8", "save it as UTF-8"]),
    Mutation("a video for a list", bytes(range(256)) * 4, says=["train.csv: not UTF-8"]),
    Mutation("one class", "a.mp4 0\nb.mp4 0\n", says=["train.csv", "one class", "add videos"]),
    Mutation("no classes in their file", "a.mp4 0\n", says=["classes.txt:1: empty line"], classes=""),
    Mutation("a class twice", "a.mp4 0\n", says=["classes.txt:3", "line 1", "remove one"], classes="run\nwalk\nrun\n"),
    Mutation("an empty line between classes", "a.mp4 0\n", says=["classes.txt:2: empty line"], classes="run\n\nwalk\n"),
]  # fmt: skip
MUTATIONS = [*RIGHT, *WRONG]


def attempt(mutation: Mutation, root: Path) -> tuple[str, bool, str]:
    """Writes the lists into ``root`` and reads them as a training run does -> name, whether that went right, what was said."""
    for video in VIDEOS:
        (root / video).parent.mkdir(exist_ok=True)
        (root / video).write_bytes(b"a video, to all that looks at directories")
    for file, text in (("train.csv", mutation.train), ("val.csv", mutation.val), ("classes.txt", mutation.classes)):
        if text is not None:
            data = text.replace("{root}", str(root)).encode() if isinstance(text, str) else text
            (root / file).write_bytes(data)
    mutation.prepare(root)
    try:
        annotations = from_lists(root=str(root / mutation.root), train="train.csv", val="val.csv")
        check_data(annotations, Settings(epochs=1))
        said = [*check_files(annotations, PyAVDecoder(), max_bad_fraction=0.4), missing_classes(annotations) or ""]
    except NlnetError as error:
        text = str(error)
        right = mutation.reads is None and "\n" not in text and str(root) in text
        return mutation.name, right and all(part in text for part in mutation.says), text
    except Exception as error:  # a refusal that a user would see as a traceback
        return mutation.name, False, f"{type(error).__name__}: {error}"
    text = "; ".join(filter(None, said))
    read = [(video.name, video.label) for video in annotations.train.videos]
    expected = [(name.replace("{root}", str(root)), label) for name, label in mutation.reads or []]
    return mutation.name, read == expected and all(part in text for part in mutation.says), text


def run_all() -> list[tuple[str, bool, str]]:
    """Every mutation: its name, whether it was read or refused as it should be, and what was said."""
    results = []
    for mutation in MUTATIONS:
        with tempfile.TemporaryDirectory() as folder:
            results.append(attempt(mutation, Path(folder).resolve()))
    return results


if __name__ == "__main__":
    results = run_all()
    for name, survived, message in results:
        print(f"{'      ' if survived else 'WRONG '} {name}: {message}")
    print(f"{sum(survived for _, survived, _ in results)} of {len(results)}")
