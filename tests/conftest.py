"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Test processes share few cores: several threads each would only get in one another's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def test_videos() -> Path:
    """The folder with real clips and odd videos; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("NLNET_TEST_VIDEOS", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "real_clips" / "train.csv").is_file():
        pytest.skip(f"no test videos in {folder}; NLNET_TEST_VIDEOS names their folder")
    return folder
