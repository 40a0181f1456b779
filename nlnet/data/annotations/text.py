"""Reading annotation files: text, tables and JSON arrays, every part with the line it stands on."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from nlnet.errors import DataError


def read_text(path: str) -> str:
    """A UTF-8 file, with or without byte-order mark, line ends as \\n; DataError if it cannot be read."""
    try:
        with open(path, encoding="utf-8-sig", newline=None) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_lines(path: str) -> list[tuple[int, str]]:
    """The lines that are not empty, stripped, each with its number from 1."""
    return [(n, line.strip()) for n, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]


def iterate_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its number from 1, without its end; read as they are wanted."""
    number = 0
    try:
        with open(path, encoding="utf-8-sig", newline=None) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (behind line {number}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_classes(path: str) -> tuple[str, ...]:
    """One class name per line, in the order of the labels."""
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    for number, name in enumerate(lines, start=1):
        if not name:
            raise DataError(f"{path}:{number}: empty line; write one class name per line, in the order of the labels")
        if name in lines[: number - 1]:
            raise DataError(f"{path}:{number}: class {name!r} is already on line {lines.index(name) + 1}; remove one")
    return tuple(lines)


def read_table(path: str, *, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV by the names in its header: FILE:LINE, {column: field, stripped}. Empty lines are skipped.

    Fields in quotes may contain commas and line ends. Raises DataError where one of ``columns`` is not in the header,
    or a row has another number of fields than it.
    """
    reader = csv.reader(io.StringIO(read_text(path)))
    header: list[str] = []
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            break
        except csv.Error as error:
            raise DataError(f"{where}: not CSV ({error}); is a quote missing?") from error
        if not any(fields):
            continue
        if not header:
            header = [field.lower() for field in fields]
            if missing := [column for column in columns if column not in header]:
                raise DataError(f"{where}: no column '{missing[0]}' in the header, which must have {','.join(columns)}")
        elif len(fields) != len(header):
            raise DataError(
                f"{where}: {len(fields)} fields where the header has {len(header)}; put fields that contain commas in "
                "double quotes"
            )
        else:
            yield where, dict(zip(header, fields, strict=True))


def read_json(path: str) -> Any:
    """A JSON file; DataError with the line where it is not JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error


def read_json_array(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON array: FILE:LINE of its beginning, object."""
    if not isinstance(read_json(path), list):
        raise DataError(f"{path}:1: not a list of videos; a JSON array of objects is expected")
    text, decoder = read_text(path), json.JSONDecoder()
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        while text[position] in ", \t\n":
            position += 1
        if text[position] == "]":
            return
        line, counted = line + text.count("\n", counted, position), position
        value, position = decoder.raw_decode(text, position)
        if not isinstance(value, dict):
            raise DataError(f"{path}:{line}: {str(value)[:40]!r} is not an object with the facts of a video")
        yield f"{path}:{line}", value


def number_of(where: str, name: str, numbers: dict[str, int], *, what: str = "class") -> int:
    """The number of a class name; DataError with the nearest right name where there is none."""
    if name not in numbers:
        near = get_close_matches(name, numbers, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{where}: no such {what} {name!r}{hint}")
    return numbers[name]
