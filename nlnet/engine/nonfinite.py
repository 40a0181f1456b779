"""Steps whose loss or gradient is NaN or infinite: they do not count, on any process; too many in a row end the run.

Nothing of such a step stays: neither weights nor optimiser move, and batch norm gets back the statistics that it had
before. All processes decide together, by one vote per step, so that none waits for another.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nlnet import distributed
from nlnet.errors import Diverged
from nlnet.loggers import RunLog

DUMP_FILE = "nonfinite.jsonl"


def is_finite(losses: Sequence[Tensor], parameters: Iterable[nn.Parameter]) -> Tensor:
    """Losses [] of a step, and parameters with their gradients -> bool []: whether all numbers are finite."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    largest = nn.utils.get_total_norm(gradients, norm_type=float("inf"))
    finite: Tensor = torch.isfinite(torch.stack([*losses, largest.to(losses[0])])).all()
    return finite


class NonFiniteSteps:
    """The policy on them, and their dump.

    Args:
        model: whose buffers are kept from step to step.
        max_in_a_row: so many end the run.
        names: of all training videos.
        log: writes nonfinite.jsonl: the losses, the samples with their videos, and the parameters with such gradients.
    """

    def __init__(self, model: nn.Module, *, max_in_a_row: int, names: Sequence[str], log: RunLog) -> None:
        self.model = model
        self.max_in_a_row = max_in_a_row
        self.names = names
        self.log = log
        self.in_a_row = 0
        groups: dict[torch.dtype, list[Tensor]] = {}  # copies of one type go together
        for buffer in model.buffers():
            groups.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = [(group, [buffer.clone() for buffer in group]) for group in groups.values()]

    def before_step(self) -> None:
        """Keeps the buffers as they are."""
        for now, before in self._buffers:
            torch._foreach_copy_(before, now)

    def leave_out(
        self, step: int, *, losses: Sequence[Tensor], indices: Sequence[Tensor], first_sample: int, checkpoint: object
    ) -> None:
        """Undoes what step number ``step`` has done so far, and says what it was made of. All processes call it.

        Args:
            losses, indices: of this process' micro-batches, the numbers of their videos.
            first_sample: number of the first sample of the step, of all processes.
            checkpoint: the newest one that finite steps have followed.

        Raises:
            Diverged: one too many.
        """
        self.in_a_row += 1
        gradients = [name for name, value in self.model.named_parameters() if _is_bad(value.grad)]
        for now, before in self._buffers:
            torch._foreach_copy_(now, before)
        self.model.zero_grad(set_to_none=True)
        mine = ([loss.item() for loss in losses], [number for batch in indices for number in batch.tolist()])
        shares = distributed.gather(mine)
        videos = [self.names[number] for _, numbers in shares for number in numbers]  # in the order of the samples
        record: dict[str, Any] = {
            "step": step,
            "in_a_row": self.in_a_row,
            "last_good_checkpoint": str(checkpoint) if checkpoint else None,
            "losses": [[str(loss) for loss in of_process] for of_process, _ in shares],  # JSON knows no NaN
            "gradients": gradients,
            "samples": [{"sample": first_sample + place, "video": video} for place, video in enumerate(videos)],
        }
        self.log.append(DUMP_FILE, record)
        shown = ", ".join(videos[:3]) + (" …" if len(videos) > 3 else "")
        self.log.line(
            f"step {step} does not count: its loss or gradient is not finite ({self.in_a_row} in a row, "
            f"trainer.max_nonfinite={self.max_in_a_row}); its videos are {shown}, all in {DUMP_FILE}"
        )
        if self.in_a_row >= self.max_in_a_row:
            raise Diverged(
                f"the loss or its gradient is not finite in {self.in_a_row} steps in a row, the last one step {step}: "
                "the run has diverged. Lower optim.lr, add schedule.warmup, or set trainer.clip_gradient. Their videos "
                f"are in {DUMP_FILE} of the run folder; the last good checkpoint is {checkpoint or 'none'}"
            )


def _is_bad(gradient: Tensor | None) -> bool:
    return gradient is not None and not bool(torch.isfinite(gradient).all())
