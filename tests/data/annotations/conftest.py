"""Small made-up data sets in their published layouts. The videos are files of one byte: nothing opens them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nlnet.data.annotations import VideoList

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a text file below the root, or with no text a video."""

    def write(name: str, text: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" if text is None else text.encode())
        return path

    return write


def as_rows(videos: VideoList, root: Path) -> list[tuple[str, object, str]]:
    """Name, label and path from the root of each video."""
    return [(video.name, video.label, str(Path(video.path).relative_to(root))) for video in videos.videos]
