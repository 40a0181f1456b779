"""The moving average of a network's weights, which is what a run with ``trainer.ema`` evaluates and keeps."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average of a network: after each step, average = decay · average + (1 - decay) · weights.

    PyTorch's own ``AveragedModel``. The first step's weights are the first average. Batch-norm statistics are averaged
    as the weights are.

    Args:
        model: the network that is trained, on its device; not its data-parallel replica.
        decay: of one step, such as 0.9999: the average looks back over some 1 / (1 - decay) steps.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        # Buffers too: with those of the last step, statistics and weights would not belong together.
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self._averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The averaged network; the names of its state dict are those of the network that is trained."""
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        """Takes in the weights behind one more step."""
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """Plain data: the averaged weights, and how many steps are in them."""
        return {"weights": self.model.state_dict(), "steps": int(self._averaged.n_averaged)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["weights"])
        self._averaged.n_averaged.fill_(state["steps"])


def weights_of(state: dict[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint that are for use: the averaged ones of a run that has them, else the trained ones."""
    average = state.get("ema")
    return average["weights"] if average else state["model"]  # type: ignore[no-any-return]
