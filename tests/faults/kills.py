"""Runs that are killed and started again, on one process and on two: the last weights are the same to the bit."""

import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nlnet import distributed
from nlnet.engine.trainer import Trainer
from tests.faults.processes import Case, Processes, TinyRun, after, kill_self, nothing, same

VARIANTS: dict[str, dict[str, object]] = {
    "momentum": {},
    "accumulation": {"accumulate": 2},
    "clipped": {"clip_gradient": 0.5},
    "bf16": {"precision": "bf16"},
    "precise batch norm": {"precise_bn": 2},
}


def reference(home: Path, *, world: int, workers: int = 0, settings: dict[str, object] | None = None) -> TinyRun:
    """A run that nothing happens to."""
    run = TinyRun(home / f"whole-{world}-{workers}" / "s0", workers=workers, settings=settings or {})
    codes = Processes(run, world=world, log=home / "whole.log").wait()
    assert codes == [0] * world, (home / "whole.log").read_text()
    return run


def finish(run: TinyRun, *, world: int, log: Path) -> str:
    """Starts the same run again until it is done -> what went wrong, or nothing."""
    processes = Processes(replace(run, harm=nothing), world=world, log=log)
    codes = processes.wait()
    return "" if codes == [0] * world else f"exit {codes}: {processes.output()[-800:]}"


def killed(home: Path, number: int, *, whole: dict[str, Tensor], world: int, workers: int, kills: int = 2) -> Case:
    """Kill -9 of one process, at a random moment of a random step, ``kills`` times in one run."""
    draw = random.Random(f"{number} {world} {workers}")
    name = f"kill{world}-{workers}-{number}"
    run = TinyRun(home / name / "s0", workers=workers)
    told = []
    for limit in (12, 6, 3)[:kills]:
        steps, rank, delay_s = draw.randrange(limit), draw.randrange(world), draw.uniform(0.0001, 0.02)
        told.append(f"process {rank} of {world}, {1000 * delay_s:.1f} ms into its step {steps + 1}")
        harm = after(steps, rank=rank, do=kill_self, delay_s=delay_s)
        codes = Processes(replace(run, harm=harm), world=world, log=home / f"{name}.log").wait()
        if codes[rank] != -signal.SIGKILL:
            return "; ".join(told), False, f"not killed: exit {codes}"
    wrong = finish(run, world=world, log=home / f"{name}.log")
    if not wrong and not same(run.weights(), whole):
        wrong = "other weights"
    return f"kill -9 of {'; '.join(told)}; {workers} workers", not wrong, wrong


def stop(trainer: Trainer) -> None:
    trainer.files.watch.asked = "SIGTERM"


def stopped_after(step: int) -> Callable[[Trainer], None]:
    """Harm: asked to stop in this step, on one process."""

    def harm(trainer: Trainer) -> None:
        after(step, rank=distributed.world_size() - 1, do=lambda: stop(trainer))(trainer)

    return harm


def resumed(home: Path, variant: str, *, whole: dict[str, Tensor], world: int, workers: int, step: int) -> Case:
    """Stopped at a step boundary, and started again."""
    name = f"{variant.replace(' ', '_')}{world}-{workers}-{step}"
    run = TinyRun(home / name / "s0", workers=workers, settings=VARIANTS[variant], every=100)
    codes = Processes(replace(run, harm=stopped_after(step)), world=world, log=home / f"{name}.log").wait()
    wrong = "" if codes == [75] * world else f"exit {codes}"
    wrong = wrong or finish(run, world=world, log=home / f"{name}.log")
    if not wrong and not same(run.weights(), whole):
        wrong = "other weights"
    return f"{variant}, {world} processes, {workers} workers, stopped after step {step + 1}", not wrong, wrong


def world_changes(home: Path, number: int, *, before: int, behind: int, step: int) -> Case:
    """Stopped on some processes and started again on others: each step has the samples that it would have had."""
    name = f"change{number}"
    run = TinyRun(home / name / "s0", workers=1)
    seen = home / f"{name}.samples"

    def note(trainer: Trainer) -> None:
        source = trainer.data.batches

        def batches(first: int, last: int) -> object:
            for place, batch in enumerate(source(first, last)):
                shares = distributed.gather((batch.indices.tolist(), int(batch.clips.long().sum())))
                if distributed.is_main():
                    with seen.open("a") as file:
                        videos = [video for indices, _ in shares for video in indices]
                        print(first + place, videos, sum(total for _, total in shares), file=file)
                yield batch

        object.__setattr__(trainer.data, "batches", batches)

    def both(trainer: Trainer) -> None:
        note(trainer)
        stopped_after(step)(trainer)

    codes = Processes(replace(run, harm=both), world=before, log=home / f"{name}.log").wait()
    codes += Processes(replace(run, harm=note), world=behind, log=home / f"{name}.log").wait()
    clips, lines = TinyRun(home / "none" / "s0").trainer().data.batches(0, run.steps), []
    for place, batch in enumerate(clips):
        lines.append(f"{place} {batch.indices.tolist()} {int(batch.clips.long().sum())}")
    right = codes == [75] * before + [0] * behind and seen.read_text().splitlines() == lines
    return f"{before} processes, then {behind} from step {step + 1}", right, f"exit {codes}"


def draws_do_not_matter(home: Path) -> Case:
    """All global generators are disturbed in each step: nothing in a run reads their state."""
    import random as python_random

    import numpy as np

    def disturb(trainer: Trainer) -> None:
        take = trainer.train_step

        def train_step(batches: object) -> None:
            for seed in (python_random.seed, np.random.seed):
                seed(int.from_bytes(__import__("os").urandom(4)))
            torch.manual_seed(int.from_bytes(__import__("os").urandom(4)))
            take(batches)  # type: ignore[arg-type]

        trainer.train_step = train_step  # type: ignore[method-assign, assignment]

    whole = reference(home / "draws", world=1)
    run = TinyRun(home / "draws" / "disturbed" / "s0", workers=1, harm=disturb)
    codes = Processes(run, world=1, log=home / "draws.log").wait()
    return "all global generators disturbed", codes == [0] and same(run.weights(), whole.weights()), f"exit {codes}"


def run_kills(
    home: Path, *, each: int = 6, jobs: Sequence[tuple[int, int]] = ((1, 0), (1, 2), (2, 0), (2, 1))
) -> list[Case]:
    """Kills on one process with and without workers, and on two."""
    cases = []
    for world, workers in jobs:
        whole = reference(home, world=world, workers=0).weights()
        cases += [killed(home, k, whole=whole, world=world, workers=workers) for k in range(each)]
    return cases


def run_resumes(home: Path, *, variants: int = 5, cuts: int = 2, worlds: int = 2) -> list[Case]:
    cases = [draws_do_not_matter(home)]
    for variant in list(VARIANTS)[:variants]:
        for world in (1, 2)[:worlds]:
            whole = reference(home / variant.replace(" ", "_"), world=world, settings=VARIANTS[variant]).weights()
            for workers in (0, 2):
                steps = random.Random(f"{variant} {world} {workers}").sample(range(22), cuts)
                cases += [
                    resumed(home, variant, whole=whole, world=world, workers=workers, step=step) for step in steps
                ]
    changes = [(1, 2), (2, 1), (2, 4), (4, 1), (1, 4), (4, 2)][: variants + 1]
    for number, (before, behind) in enumerate(changes):
        cases.append(world_changes(home, number, before=before, behind=behind, step=3 + 2 * number))
    return cases
