"""Something-Something v2: templates, and lines in JSON."""

import json
from pathlib import Path

import pytest

from nlnet.data.annotations.something import from_json
from nlnet.errors import DataError
from tests.data.annotations.conftest import Write, as_rows

LABELS = {"Pushing something from left to right": "1", "Closing something": "0"}
TRAIN = [
    {
        "id": "78687",
        "label": "pushing a cup, [sic] from left to right",
        "template": "Pushing [something] from left to right",
        "placeholders": ["a cup, [sic]"],
    },
    {"id": "42326", "label": "closing a box", "template": "Closing [something]", "placeholders": ["a box"]},
]
VAL = [{"id": "74225", "label": "closing a jar", "template": "Closing [something]", "placeholders": ["a jar"]}]


@pytest.fixture
def published(write: Write) -> None:
    write("something-something-v2-labels.json", json.dumps(LABELS))
    write("something-something-v2-train.json", json.dumps(TRAIN, indent=1))
    write("something-something-v2-validation.json", json.dumps(VAL))
    for file in ("78687.webm", "42326.mp4", "74225.webm"):
        write(f"20bn-something-something-v2/{file}")


def test_templates_are_the_classes(published: None, tmp_path: Path) -> None:
    annotations = from_json(root=str(tmp_path), num_classes=2)
    assert annotations.classes == ("Closing something", "Pushing something from left to right")
    assert as_rows(annotations.train, tmp_path) == [
        ("78687", 1, "20bn-something-something-v2/78687.webm"),
        ("42326", 0, "20bn-something-something-v2/42326.mp4"),
    ]
    assert as_rows(annotations.val, tmp_path) == [("74225", 0, "20bn-something-something-v2/74225.webm")]


REFUSED = {
    "unknown template": (
        '[\n{"id": "1",\n "template": "Closing [something]"},\n\n {"id": "2", "template": "Closed"}]',
        5,
    ),
    "no template": ('[{"id": "1", "template": "Closing [something]"},\n{"id": "2"}\n]', 2),
    "no id": ('[\n\n{"template": "Closing [something]"}]', 3),
    "not an object": ('[{"id": "1", "template": "Closing [something]"},\n"2"]', 2),
    "not JSON": ('[\n{"id": "1",}\n]', 2),
    "not a list": ('{"id": "1", "template": "Closing [something]"}', 1),
    "twice": ('[{"id": "1", "template": "Closing [something]"},\n{"id": 1, "template": "Closing [something]"}]', 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_files_are_refused_with_their_line(case: str, published: None, write: Write, tmp_path: Path) -> None:
    text, line = REFUSED[case]
    write("something-something-v2-train.json", text)
    with pytest.raises(DataError, match=rf"v2-train.json:{line}: "):
        from_json(root=str(tmp_path), num_classes=2)


@pytest.mark.parametrize(
    "labels", ['{"Closing something": "0", "Pushing something from left to right": "2"}', '["Closing"]', '{"a": "b"}']
)
def test_wrong_labels_are_refused(labels: str, published: None, write: Write, tmp_path: Path) -> None:
    write("something-something-v2-labels.json", labels)
    with pytest.raises(DataError, match=r"v2-labels.json:1: "):
        from_json(root=str(tmp_path), num_classes=None)


def test_another_number_of_classes_is_refused(published: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"v2-labels.json: 2 classes where this data set has 174"):
        from_json(root=str(tmp_path))
