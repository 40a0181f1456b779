"""Fixtures of the tests of configs."""

from pathlib import Path

import pytest


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"class {number}\n" for number in range(7)))
    return path
