"""What a run will take, before it runs: ``nlnet train --plan``. A probe of a few steps and test videos, then sums."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from nlnet.benchmark.timing import wait
from nlnet.config import TrainJob
from nlnet.config.evaluation import Evaluation
from nlnet.engine.trainer import Trainer

PROBE_STEPS = 3
PROBE_VIDEOS = 8  # and a few for each worker, which all work at the same time


@dataclass(frozen=True)
class Plan:
    """Seconds of the parts of a run, and how often they come.

    Args:
        steps, step_s: optimiser steps, with their data.
        validations, validation_s: scorings of the validation list during training.
        test_s: of the final weights.
        precise_bn_s: in front of all validations and checkpoints together.
    """

    steps: int
    step_s: float
    validations: int
    validation_s: float
    test_s: float
    precise_bn_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.steps * self.step_s + self.validations * self.validation_s + self.test_s + self.precise_bn_s

    def line(self) -> str:
        """For people."""
        precise = f", precise batch norm {duration(self.precise_bn_s)}" if self.precise_bn_s else ""
        return (
            f"time about {duration(self.total_s)}: {self.steps} steps of {self.step_s:.3g} s, {self.validations} "
            f"validations of {self.validation_s:.3g} s, a test of {self.test_s:.3g} s{precise}"
        )


def plan(job: TrainJob) -> Plan:
    """Takes a few steps of the run and scores a few videos, then multiplies. The weights of ``job`` change."""
    trainer = job.trainer
    step_s = _step_seconds(trainer, readers(job.test))
    settings = trainer.settings
    validated = due(trainer, settings.validate_every)
    saved = due(trainer, settings.checkpoint_every)
    measurements = sum(one or other for one, other in zip(validated, saved, strict=True))
    # Forward passes alone: about a third of what training takes.
    measurement_s = (settings.precise_bn or 0) * step_s / 3
    return Plan(
        steps=trainer.steps,
        step_s=step_s,
        validations=sum(validated),
        validation_s=_evaluation_seconds(job.validation, job),
        test_s=_evaluation_seconds(job.test, job),
        precise_bn_s=measurements * measurement_s,
    )


def due(trainer: Trainer, every: float) -> list[bool]:
    """For each step of the run, whether it is followed by what comes every so many epochs."""
    before = trainer.step
    answers = []
    for step in range(1, trainer.steps + 1):
        trainer.step = step
        answers.append(trainer.due(every))
    trainer.step = before
    return answers


def _step_seconds(trainer: Trainer, readers: int) -> float:
    """Seconds of a step in the long run: behind the batches that the workers have ready at the start."""
    trainer.start()
    batches = iter(trainer.data.batches(0, 10**9))
    for _ in islice(batches, 2 * readers):
        pass
    trainer.train_step(batches)

    def steps() -> None:
        for _ in range(PROBE_STEPS):
            trainer.train_step(batches)

    return _seconds(steps, trainer) / PROBE_STEPS


def readers(evaluation: Evaluation) -> int:
    """How many videos are read at a time."""
    return evaluation.readers.workers + evaluation.readers.threads


def _evaluation_seconds(evaluation: Evaluation, job: TrainJob) -> float:
    """Seconds that all its videos will take: the slope between few and more of them, so that starting counts once."""
    videos = evaluation.videos
    few, more = PROBE_VIDEOS + readers(evaluation), 2 * PROBE_VIDEOS + 4 * readers(evaluation)
    if len(videos) <= more:
        return _seconds(lambda: evaluation(job.model), job.trainer)
    seconds = [
        _seconds(lambda subset=subset: subset(job.model), job.trainer)  # type: ignore[misc]
        for count in (few, more)
        for subset in (replace(evaluation, videos=replace(videos, videos=videos.videos[:count])),)
    ]
    slope = max(seconds[1] - seconds[0], 0.0) / (more - few)
    return seconds[1] + slope * (len(videos) - more)


def _seconds(work: Callable[[], object], trainer: Trainer) -> float:
    wait(trainer.device)
    start = time.perf_counter()
    work()
    wait(trainer.device)
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """3725.0 -> "1:02:05"; 65.0 -> "1:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
