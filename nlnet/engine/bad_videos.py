"""The one place that decides about videos that cannot be decoded in training: count, list, and at last stop."""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from nlnet import distributed
from nlnet.errors import TooManyBadVideos


class BadVideos:
    """The bad videos that all processes have met, with their reasons.

    Args:
        names: of all training videos, in the order of their indices.
        max_fraction: of the list that may be bad before training stops.
        folder: where bad_videos.csv is kept.
    """

    def __init__(self, names: list[str], *, max_fraction: float, folder: Path) -> None:
        self.names = names
        self.max_fraction = max_fraction
        self.path = folder / "bad_videos.csv"
        self.reasons: dict[int, str] = {}
        self._new: dict[int, str] = {}

    def add(self, bad: Iterable[tuple[int, str]]) -> None:
        """Notes what this process met; ``share`` tells the others."""
        self._new.update(bad)

    def share(self) -> int:
        """Exchanges the news between the processes (all of them call this together) and returns how many are new.

        Raises:
            TooManyBadVideos: more than ``max_fraction`` of the list is bad.
        """
        before = len(self.reasons)
        for news in distributed.gather(self._new):
            self.reasons.update(news)
        self._new = {}
        if len(self.reasons) > before and distributed.is_main():
            try:
                self._write()
            except OSError as error:  # a list is not worth a run; the next news write all of it again
                print(f"warning: {self.path} cannot be written ({error}); training goes on", file=sys.stderr)
        fraction = len(self.reasons) / len(self.names)
        if fraction > self.max_fraction:
            raise TooManyBadVideos(
                f"{len(self.reasons)} of {len(self.names)} training videos ({fraction:.1%}) cannot be used, more than "
                f"data.max_bad_fraction={self.max_fraction}; they are listed in {self.path}. Mend the files or the "
                "list, or raise data.max_bad_fraction"
            )
        return len(self.reasons) - before

    def _write(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "reason"])
            writer.writerows([self.names[index], reason] for index, reason in sorted(self.reasons.items()))

    def state_dict(self) -> dict[int, str]:
        return dict(self.reasons)

    def load_state_dict(self, state: dict[int, str]) -> None:
        self.reasons = dict(state)
