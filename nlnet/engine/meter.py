"""What the training loop measures between two log lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from nlnet import distributed


class Meter:
    """Sums since the last reading, kept on the device so that no step waits for them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._restart()

    def _restart(self) -> None:
        # loss · clips, clips, correct, clips that can be correct (those with one label)
        self._sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        self._waited_s = 0.0
        self._paused_s = 0.0
        self._started = time.perf_counter()

    def add(self, loss: Tensor, clips: int, correct_B: Tensor | None) -> None:
        """The mean loss of B clips and how far each is correct, 0 to 1; None where a clip has more than one label."""
        ones = self._sums.new_ones(())
        correct = [ones * 0, ones * 0] if correct_B is None else [correct_B.sum().double(), ones * clips]
        self._sums += torch.stack([loss.double() * clips, ones * clips, *correct])

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time of this block is spent waiting for data."""
        start = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of this block (validation, checkpoints) is not training time."""
        start = time.perf_counter()
        yield
        self._paused_s += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Loss, top-1 (of clips with one label), clips/s over all processes and this process' data-wait share."""
        loss, clips, correct, labelled = distributed.sum_across(self._sums).tolist()
        seconds = max(time.perf_counter() - self._started - self._paused_s, 1e-9)
        values = {
            "loss": loss / clips if clips else float("nan"),
            **({"top1": correct / labelled} if labelled else {}),
            "clips_per_second": clips / seconds,
            "data_share": min(self._waited_s / seconds, 1.0),
        }
        self._restart()
        return values
