"""The pages and class lists of the data sets."""

import re
import shlex
from pathlib import Path

import pytest
from torchvision.models.video import R3D_18_Weights

from nlnet.config.compose import check, compose
from nlnet.data.annotations.kinetics import class_name

PAGES = {"kinetics", "ucf101", "hmdb51", "ssv2", "charades"}
COUNTS = {
    "kinetics/classes400.txt": 400,
    "kinetics/classes600.txt": 600,
    "kinetics/classes700.txt": 700,
    "ucf101/classes.txt": 101,
    "hmdb51/classes.txt": 51,
    "ssv2/classes.txt": 174,
    "charades/classes.txt": 157,
}


def class_list(repository: Path, name: str) -> list[str]:
    return (repository / "datasets" / name).read_text(encoding="utf-8").splitlines()


def test_every_class_list_is_counted(repository: Path) -> None:
    lists = {str(path.relative_to(repository / "datasets")) for path in (repository / "datasets").rglob("classes*.txt")}
    assert lists == set(COUNTS)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_a_class_list_has_all_names_once_and_its_page_links_to_it(name: str, repository: Path) -> None:
    classes = class_list(repository, name)
    assert len(classes) == len({label.casefold() for label in classes}) == COUNTS[name]
    assert all(label == label.strip() != "" for label in classes)
    folder, file = name.split("/")
    assert f"[{file}]({file})" in (repository / "datasets" / folder / "README.md").read_text(encoding="utf-8")


def test_the_classes_of_kinetics_are_those_of_published_weights(repository: Path) -> None:
    """And in the order in which the reader numbers them."""
    classes = class_list(repository, "kinetics/classes400.txt")
    assert classes == list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    assert classes == sorted(classes)


@pytest.mark.parametrize("number", [400, 600, 700])
def test_the_classes_of_kinetics_are_named_and_sorted_as_the_reader_has_them(number: int, repository: Path) -> None:
    classes = class_list(repository, f"kinetics/classes{number}.txt")
    assert classes == sorted(classes)
    assert classes == [class_name(label) for label in classes]


def test_the_editions_of_kinetics_share_as_many_classes_as_their_papers_say(repository: Path) -> None:
    """All but 32 of 400 (Carreira and others, 2018), all but three of 600 (2019), whatever the case."""
    small, middle, large = (class_list(repository, f"kinetics/classes{number}.txt") for number in (400, 600, 700))
    assert len(set(small) & set(middle)) == 368
    assert len({label.casefold() for label in middle} & {label.casefold() for label in large}) == 597
    assert sorted(set(middle) - set(large)) == [
        "bull fighting",
        "chopping vegetables",
        "passing american football (not in game)",
        "picking fruit",
    ]


@pytest.mark.parametrize("name", ["hmdb51/classes.txt", "ssv2/classes.txt"])
def test_the_classes_of_hmdb51_and_something_something_are_sorted(name: str, repository: Path) -> None:
    classes = class_list(repository, name)
    assert classes == sorted(classes)


def test_the_classes_of_something_something_have_the_numbers_of_its_labels_file(repository: Path) -> None:
    classes = class_list(repository, "ssv2/classes.txt")
    assert classes[0] == "Approaching something with your camera"
    assert classes[16] == "Holding something"
    assert classes[173] == "Wiping something off of something"
    assert not any("[" in label or "]" in label for label in classes)


def test_the_classes_of_ucf101_are_in_the_order_of_class_ind(repository: Path) -> None:
    """Which is alphabetical, whatever the case: Hammering before HammerThrow."""
    classes = class_list(repository, "ucf101/classes.txt")
    assert classes == sorted(classes, key=str.casefold)
    assert classes[34:37] == ["Hammering", "HammerThrow", "HandstandPushups"]
    assert not any(" " in label for label in classes)


def test_the_classes_of_charades_are_in_the_order_of_their_codes(repository: Path) -> None:
    classes = class_list(repository, "charades/classes.txt")
    assert classes[0] == "Holding some clothes"
    assert classes[92] == "Watching/Looking outside of a window"
    assert classes[106] == "Drinking from a cup/glass/bottle"
    assert classes[147] == "Someone is cooking something"
    assert classes[156] == "Someone is eating something"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_each_page_has_what_a_user_needs(name: str, repository: Path) -> None:
    text = (repository / "datasets" / name / "README.md").read_text(encoding="utf-8")
    for heading in ("## From download to training", "## Licence and counts", "## Classes", "## Known "):
        assert heading in text, heading


def commands(text: str) -> list[list[str]]:
    """The nlnet commands in the code of a page, as words; ``…`` and comments left out."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    lines = [line.strip() for line in blocks.splitlines() if line.strip().startswith("nlnet ")]
    return [shlex.split(line, comments=True) for line in lines]


def test_the_commands_of_the_pages_compose(repository: Path) -> None:
    trained = 0
    for path in [*(repository / "datasets").glob("*/README.md"), repository / "docs/preparing.md"]:
        for _, verb, *words in commands(path.read_text(encoding="utf-8")):
            if verb == "train":
                overrides = [word for word in words if "…" not in word]
                if not any(word.startswith("data.root=") for word in overrides):
                    overrides.append("data.root=x")
                check(compose("train", overrides))
                trained += 1
            elif verb == "data":
                from nlnet.cli.data import VERBS, Parser

                assert words[0] in VERBS, path
                parser = Parser(exit_on_error=False)
                VERBS[words[0]].arguments(parser)
                parser.parse_args(words[1:])
    assert trained >= 8
