"""How far a long job is: a line that rewrites itself on a terminal, one every half minute in a log."""

import sys
import time
from datetime import timedelta


class Progress:
    """``check  1234/300000  0.4%  52/s  left 1:35:47``, to the error output.

    Args:
        total: what there is to do.
        done: how much of it was done by a run before.
    """

    def __init__(self, what: str, *, total: int, done: int = 0) -> None:
        self.what = what
        self.total = total
        self.before = done
        self.count = 0
        self._terminal = sys.stderr.isatty()
        self._started = self._said = time.monotonic()
        if done:
            print(f"{what}: {done} of {total} were done before", file=sys.stderr)

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.count += count
        if time.monotonic() - self._said >= (0.2 if self._terminal else 30):
            self._said = time.monotonic()
            self._say("\r" if self._terminal else "\n")

    def end(self) -> None:
        """The last word, where there was anything to do."""
        if self.count:
            self._say("\n")

    def _say(self, end: str) -> None:
        rate = self.count / max(1e-9, time.monotonic() - self._started)
        done = self.before + self.count
        left = timedelta(seconds=round(max(0, self.total - done) / rate)) if rate else "?"
        share = done / max(1, self.total)
        print(f"{self.what}  {done}/{self.total}  {share:.1%}  {rate:.3g}/s  left {left}  ", end=end, file=sys.stderr)
        sys.stderr.flush()
