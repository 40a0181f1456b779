"""How a run is trained, as one record: the ``trainer`` node of a config."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nlnet.engine.losses import CrossEntropy, Loss
from nlnet.engine.precision import Name
from nlnet.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How a run is trained.

    Args:
        epochs: passes over the training list; fractions are fine.
        batch_size: clips of one optimiser step, over all processes and micro-batches.
        accumulate: micro-batches that one step is split into, to save memory.
        loss: cross entropy, or binary cross entropy where a video may show several classes.
        clip_gradient: largest norm of the gradient; None for no limit.
        precision: fp32, bf16 or fp16 (autocast).
        log_every: steps between two lines.
        validate_every, checkpoint_every: epochs between two; the end always has both.
        compile: forward and backward passes of training by torch.compile; the first step takes minutes.
        recompute: parts of the network (res2, …) that keep less for the backward pass and compute it again; see
            ``nlnet.models.recompute``, which the builder of the run applies.
        precise_bn: batches to measure the batch-norm statistics with in front of each validation and checkpoint;
            None keeps the running averages.
        max_nonfinite: steps in a row whose loss or gradient is not finite, after which the run ends. Such steps do
            not count: weights, optimiser and statistics stay as they were.
        ema: decay of a moving average of the weights, which is then what is evaluated and kept; None for none.
    """

    epochs: float
    batch_size: int = 64
    accumulate: int = 1
    loss: Loss = field(default_factory=CrossEntropy)
    clip_gradient: float | None = None
    precision: Name = "fp32"
    log_every: int = 20
    validate_every: float = 1.0
    checkpoint_every: float = 1.0
    precise_bn: int | None = None
    max_nonfinite: int = 10
    ema: float | None = None
    compile: bool = False
    recompute: Sequence[str] = ()

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "accumulate", "log_every", "validate_every", "checkpoint_every")
        for name in (*positive, "max_nonfinite"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"trainer.{name} must be above 0, not {getattr(self, name)}")
        if self.clip_gradient is not None and self.clip_gradient <= 0:
            raise ConfigError(f"trainer.clip_gradient must be above 0, or null for no limit, not {self.clip_gradient}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"trainer.ema is a decay between 0 and 1, such as 0.9999, or null, not {self.ema}")
        if self.compile and self.recompute:
            raise ConfigError(
                "trainer.compile chooses itself what is computed twice; leave trainer.recompute empty, or compile out"
            )
        if self.precise_bn is not None and self.precise_bn < 1:
            raise ConfigError(f"trainer.precise_bn is a number of batches, or null, not {self.precise_bn}")
