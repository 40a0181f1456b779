"""Which clips come from one source video, by their names: they must not stand on both sides of a split."""

import re
from collections.abc import Callable
from typing import NamedTuple

from nlnet.errors import ConfigError


class Rule(NamedTuple):
    """A convention of names; group 1, or ``source``, is the source."""

    name: str
    pattern: re.Pattern[str]


# The first rule that fits a name says its source.
RULES = (
    Rule("UCF-101 groups (v_CLASS_g01_c01)", re.compile(r"(v_.+_g\d+)_c\d+")),
    Rule("Kinetics ids and times (ID_000010_000020)", re.compile(r"(.+)_\d{6}_\d{6}")),
    Rule("YouTube ids and times (ID_10_20)", re.compile(r"([\w-]{11})_\d+(?:\.\d+)?_\d+(?:\.\d+)?")),
    Rule(
        "HMDB-51 tags (SOURCE_CLASS_u_nm_np1_ba_goo_0)",
        re.compile(r"(.+)_[fuhl]_(?:nm|cm)_np\d_(?:ba|fr|le|ri)_\w+_\d+"),
    ),
)
PARTS = Rule(
    "trailing parts (NAME_2, NAME-part2)", re.compile(r"(.+?)[ _.-]+(?:part|clip|scene|shot|segment|p|c)?[ _-]?\d+")
)


def source_of(stem: str) -> tuple[str, str]:
    """Name of a video without extension -> its source, and the name of the rule ("" where none fits)."""
    for rule in RULES:
        if match := rule.pattern.fullmatch(stem):
            return match[1], rule.name
    return stem, ""


def part_of(stem: str) -> str:
    """``walk in the park_2`` -> ``walk in the park``; the whole stem where it ends in no number."""
    match = PARTS.pattern.fullmatch(stem)
    return match[1] if match else stem


def by_pattern(pattern: str) -> Callable[[str], tuple[str, str | None]]:
    """A pattern for relative paths without extension -> a function to (source, class or None).

    The source is the group ``source``, else the first one, else the whole path; the class is the group ``class_``, if
    there is one. Paths that the pattern does not fit are sources of their own.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--pattern {pattern!r} is not a regular expression: {error}") from error
    if not compiled.groups:
        raise ConfigError(f"--pattern {pattern!r} has no group; put the part that names the source in parentheses")
    named = compiled.groupindex

    def divide(path: str) -> tuple[str, str | None]:
        match = compiled.search(path)
        if match is None:
            return path, None
        label = match["class_"] if "class_" in named else None
        if "source" in named:
            return str(match["source"]), label
        return (path, label) if "class_" in named else (str(match[1]), label)

    return divide
