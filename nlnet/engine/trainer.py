"""The training loop: the same code for one process and for many, resumable after any step.

A run is a stream of samples: step s takes the samples s·batch … (s+1)·batch - 1, whoever computes them, and an epoch is
one pass over the list, wherever a batch boundary falls. All randomness is a function of (seed, step or sample number),
so the state of a run is its weights, its optimiser and the number of its step: no generator has a state to keep.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nlnet import distributed, metrics
from nlnet.engine.averaging import MovingAverage
from nlnet.engine.bad_videos import BadVideos
from nlnet.engine.checkpoint import CheckpointFolder
from nlnet.engine.faults import Watch
from nlnet.engine.meter import Meter
from nlnet.engine.nonfinite import NonFiniteSteps, is_finite
from nlnet.engine.precise_bn import measure_statistics
from nlnet.engine.precision import Precision
from nlnet.engine.predictions import headline
from nlnet.engine.settings import Settings
from nlnet.errors import CheckpointError, Preempted
from nlnet.loggers import RunLog
from nlnet.optim.schedules import Schedule


class Batch(Protocol):
    """One process' share of a micro-batch: see ``nlnet.data.loader.TrainBatch``."""

    clips: Tensor
    labels: Tensor
    indices: Tensor
    bad: Any
    numbers: Tensor


@dataclass(frozen=True)
class TrainData:
    """Where a run's clips come from.

    Args:
        batches: first step, last step (not included; the stream itself has no end) -> the micro-batches of this
            process for these steps, ``accumulate`` for each.
        to_input: uint8 [B, T, H, W, 3] -> normalised float [B, 3, T, H, W].
        samples_per_epoch: clips of a pass over the training list.
        augment: clips on the device, their batch -> what the workers have left to the device done: uint8, as they are.
        mix: normalised clips, labels, sample numbers -> mixed clips, targets float [B, K]; None for neither.
    """

    batches: Callable[[int, int], Iterable[Batch]]
    to_input: Callable[[Tensor], Tensor]
    samples_per_epoch: int
    augment: Callable[[Tensor, Any], Tensor] | None = None
    mix: Callable[[Tensor, Tensor, list[int]], tuple[Tensor, Tensor]] | None = None

    def clips_of(self, batch: Batch, device: torch.device) -> Tensor:
        """The clips of a batch as the network gets them, on the device, but for the mixing."""
        clips = batch.clips.to(device, non_blocking=True)
        return self.to_input(clips if self.augment is None else self.augment(clips, batch))


@dataclass(frozen=True)
class RunFiles:
    """What a run writes, and who watches over it.

    ``card`` describes the model in plain data and goes into every checkpoint.
    """

    log: RunLog
    checkpoints: CheckpointFolder
    bad_videos: BadVideos
    card: dict[str, Any]
    watch: Watch = field(default_factory=Watch)


def total_steps(settings: Settings, samples_per_epoch: int) -> int:
    """Optimiser steps of the whole run."""
    return math.ceil(settings.epochs * samples_per_epoch / settings.batch_size)


class Share(NamedTuple):
    """What a micro-batch of this process gave: its loss [], logits [B, K], targets and numbers of its videos [B]."""

    loss: Tensor
    logits: Tensor
    labels: Tensor
    indices: Tensor

    def correct(self) -> Tensor:
        """How far each clip is right, 0 to 1 [B]; of mixed clips, the share of the class named."""
        return metrics.share_at_top_1(self.logits.float(), self.labels)


class Trainer:
    """Trains a model to the end of its run.

    Args:
        model: clips [B, 3, T, H, W] -> logits [B, K], on its device.
        optimizer: over the model's parameters, at the base learning rate.
        schedule: progress of the run -> factor of the learning rate.
        validate: scores the current model; None for no validation. Its top1 or map decides which is best.
        seed: of everything random inside the model (dropout).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        settings: Settings,
        data: TrainData,
        files: RunFiles,
        validate: Callable[[], dict[str, float]] | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.settings, self.data, self.files, self.validate = settings, data, files, validate
        self.seed = seed
        self.device = next(model.parameters()).device
        self.precision = Precision(settings.precision, self.device)
        self.base_lr = [group["lr"] for group in optimizer.param_groups]
        self.steps = total_steps(settings, data.samples_per_epoch)
        self.average = MovingAverage(model, decay=settings.ema) if settings.ema is not None else None
        self.step = 0
        self.nonfinite = NonFiniteSteps(
            model, max_in_a_row=settings.max_nonfinite, names=files.bad_videos.names, log=files.log
        )
        self.pending = False  # what is due behind the last step is still to be done
        self.asked = False  # some process was asked to stop
        self.best: float | None = None
        self.meter = Meter(self.device)

    # The loop -----------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Trains from the newest checkpoint, or from the start, to the last step.

        Raises:
            Preempted: the process was asked to stop, and all of them have saved one checkpoint together.
        """
        self.resume()
        self.start()
        batches = iter(self.data.batches(self.step, self.steps))
        if self.pending:
            self.finish_step()
        while self.step < self.steps:
            self.train_step(batches)
            if self.step % self.settings.log_every == 0 or self.step == self.steps:
                self.log()
            with self.meter.paused():
                self.finish_step()

    def start(self) -> None:
        """Makes the model ready for training steps."""
        # A compiled wrapper, for training steps alone: names, evaluation and hooks are those of the model itself.
        model: Any = torch.compile(self.model) if self.settings.compile else self.model
        self.replica = distributed.replicate(model, self.device)
        self.model.train()

    def train_step(self, batches: Iterator[Batch]) -> None:
        """One optimiser step over ``accumulate`` micro-batches, if they are finite on all processes."""
        self.seed_model()
        self.nonfinite.before_step()
        for group, base in zip(self.optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = base * self.schedule(self.step / self.steps)
        shares: list[Share] = []
        for micro in range(self.settings.accumulate):
            with self.meter.waiting():
                batch = next(batches)
            self.files.bad_videos.add(batch.bad)
            labels = batch.labels.to(self.device, non_blocking=True)
            clips = self.data.clips_of(batch, self.device)
            if self.data.mix is not None:
                clips, labels = self.data.mix(clips, labels, batch.numbers.tolist())
            not_last = micro + 1 < self.settings.accumulate
            with distributed.without_averaging(self.replica, when=not_last), self.precision.autocast():
                logits = self.replica(clips)
                loss = self.settings.loss(logits.float(), labels)
                self.precision.backward(loss / self.settings.accumulate)
            shares.append(Share(loss.detach(), logits.detach(), labels, batch.indices))
        if self.agree_on_step(shares):
            self.precision.step(self.optimizer, self.model.parameters(), clip=self.settings.clip_gradient)
            if self.average is not None:
                self.average.update(self.model)
            several = self.settings.loss.multi_label
            for share in shares:
                self.meter.add(share.loss, len(share.labels), None if several else share.correct())
        self.step += 1

    def finish_step(self) -> None:
        """What is due behind a step: precise batch norm, validation, a checkpoint, and the end if one is asked for."""
        validate, save = self.due(self.settings.validate_every), self.due(self.settings.checkpoint_every)
        if self.nonfinite.in_a_row and self.step < self.steps:
            save = False  # its weights may be why; what is kept must be sound
        try:
            if self.asked:
                raise Preempted("asked to stop")
            if validate or save:
                self.measure_batch_norm()
            if self.validate is not None and validate:
                self.keep_best(self.validate())
        except Preempted:
            self.pending = True
            self.save()
            raise Preempted(f"asked to stop after step {self.step} of {self.steps}; the same command goes on") from None
        self.pending = False
        if save:
            self.save()

    def agree_on_step(self, shares: Sequence["Share"]) -> bool:
        """One vote of all processes: whether this step counts, and whether any of them was asked to stop."""
        losses = [share.loss for share in shares]
        gradients = () if self.precision.judges_gradients else self.model.parameters()
        asked = torch.tensor(self.files.watch.alive(), device=self.device)
        wrong, self.asked = distributed.any_of(torch.stack([~is_finite(losses, gradients), asked]))
        if not wrong:
            self.nonfinite.in_a_row = 0
            return True
        self.nonfinite.leave_out(
            self.step + 1,
            losses=losses,
            indices=[share.indices for share in shares],
            first_sample=self.step * self.settings.batch_size,
            # Finite steps have followed it: its weights are sound.
            checkpoint=distributed.on_main(lambda: self.files.checkpoints.before(self.step - self.nonfinite.in_a_row)),
        )
        return False

    def seed_model(self) -> None:
        """Makes what is random inside the model (dropout) a function of the seed, the step and the process."""
        torch.manual_seed(self.seed * 1_000_003 + self.step * 4_099 + distributed.rank())

    # On all processes together -----------------------------------------------------------------------------------

    @property
    def epoch(self) -> float:
        """Passes over the training list so far."""
        return self.step * self.settings.batch_size / self.data.samples_per_epoch

    def due(self, every: float) -> bool:
        """Whether the last step went past a multiple of ``every`` epochs, or was the last of the run."""
        before = (self.step - 1) * self.settings.batch_size / self.data.samples_per_epoch
        return self.step == self.steps or math.floor(self.epoch / every) > math.floor(before / every)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated, tested and kept as the best: the average, where there is one."""
        return self.model if self.average is None else self.average.model

    def measure_batch_norm(self) -> None:
        """Precise batch norm, if it is asked for, with the clips of the steps that come next.

        Those steps get the same clips as without it, and steps in training mode do not read running statistics. The
        statistics of a checkpoint are a function of its weights and its step. So this changes neither training nor
        resuming.
        """
        if self.settings.precise_bn is None:
            return
        self.seed_model()
        clips = (
            self.data.clips_of(batch, self.device)
            for batch in self.data.batches(self.step, self.step + self.settings.precise_bn)
        )
        layers = measure_statistics(self.evaluated, clips, autocast=self.precision.autocast)
        self.files.log.line(f"precise batch norm: {layers} layers, {self.settings.precise_bn} batches")

    def log(self) -> None:
        """Writes the numbers since the last time and shares the bad videos.

        Raises:
            TooManyBadVideos: see ``BadVideos.share``.
        """
        values = self.meter.read()
        lr = self.optimizer.param_groups[0]["lr"]
        left = (self.steps - self.step) * self.settings.batch_size / max(values["clips_per_second"], 1e-9)
        top1 = f"top-1 {values['top1']:.1%} · " if "top1" in values else ""
        self.files.log.record("train", self.step, epoch=self.epoch, lr=lr, **values)
        self.files.log.line(
            f"step {self.step}/{self.steps} · epoch {self.epoch:.2f} · loss {values['loss']:.4f} · "
            f"{top1}lr {lr:.2g} · {values['clips_per_second']:.1f} clips/s · waiting for data "
            f"{values['data_share']:.0%} · {_duration(left)} left"
        )
        if new := self.files.bad_videos.share():
            self.files.log.line(f"{new} more bad videos were replaced; see {self.files.bad_videos.path}")

    def keep_best(self, scores: dict[str, float]) -> None:
        """Logs a validation and keeps the weights if they are the best so far."""
        self.files.log.record("val", self.step, epoch=self.epoch, **scores)
        self.files.log.line(
            f"validation at epoch {self.epoch:.2f}: {headline(scores)} · loss {scores['loss']:.4f} · "
            f"{scores['coverage']:.1%} of the videos scored"
        )
        score = scores["map"] if "map" in scores else scores["top1"]
        if self.best is None or score > self.best:
            self.best = score
            if distributed.is_main():
                weights = {"step": self.step, "model": self.evaluated.state_dict(), "card": self.files.card}
                self.files.checkpoints.save_best(weights)

    def save(self) -> None:
        """Writes a checkpoint: the main process writes, the others wait, and share its error if there is one."""
        distributed.on_main(lambda: self.files.checkpoints.save(self.step, self.state_dict()))

    def resume(self) -> None:
        """Continues from the newest valid checkpoint, if there is one, with the same state on all processes."""
        found = distributed.on_main(self._open_checkpoints)
        if found is None:
            return
        path, state = found
        self.load_state_dict(state)
        self.files.log.rewind(self.step)
        self.files.log.line(f"resuming at step {self.step} of {self.steps} from {path}")

    def _open_checkpoints(self) -> tuple[str, dict[str, Any]] | None:
        found = self.files.checkpoints.newest()
        self.files.checkpoints.open_at(found[1]["step"] if found else 0)
        return (str(found[0]), found[1]) if found else None

    def state_dict(self) -> dict[str, Any]:
        """All that a run is at a step boundary, as plain data."""
        return {
            "step": self.step,
            "best": self.best,
            "pending": self.pending,
            "nonfinite": self.nonfinite.in_a_row,
            "model": self.model.state_dict(),
            "ema": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "bad_videos": self.files.bad_videos.state_dict(),
            "card": self.files.card,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["card"]["identity"] != self.files.card["identity"]:
            raise CheckpointError("the checkpoint in this run folder was made by another run; choose another name=…")
        self.step, self.best = state["step"], state["best"]
        self.pending, self.nonfinite.in_a_row = state["pending"], state["nonfinite"]
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.files.bad_videos.load_state_dict(state["bad_videos"])


def _duration(seconds: float) -> str:
    """90061.0 -> "25:01:01"; 61 -> "1:01"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
