"""The pages and class lists of the data sets."""

import re
import shlex
from pathlib import Path

import pytest
from torchvision.models.video import R3D_18_Weights

from nlnet.config.compose import check, compose

PAGES = {"kinetics", "ucf101", "hmdb51", "ssv2", "charades"}


def test_the_classes_of_kinetics_are_those_of_published_weights(repository: Path) -> None:
    """And in the order in which the reader numbers them."""
    classes = (repository / "datasets/kinetics/classes400.txt").read_text(encoding="utf-8").splitlines()
    assert classes == list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    assert classes == sorted(classes)
    assert len(set(classes)) == 400


def test_the_classes_of_hmdb51(repository: Path) -> None:
    classes = (repository / "datasets/hmdb51/classes.txt").read_text(encoding="utf-8").splitlines()
    assert classes == sorted(classes)
    assert len(set(classes)) == 51


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
