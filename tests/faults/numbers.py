"""NaN and infinity in the loss or its gradient, on one process of two: the step does not count on any of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from nlnet import distributed
from nlnet.engine.trainer import Trainer
from tests.faults.processes import BATCH, Case, Processes, TinyRun, after, same

NAN, INFINITY = float("nan"), float("inf")


def bad_input(steps: range, *, rank: int, value: float) -> Callable[[Trainer], None]:
    """Harm: these steps get an input with this value on one process: loss, gradient and batch norm see it."""

    def harm(trainer: Trainer) -> None:
        to_input = trainer.data.to_input

        def spoiled(clips: torch.Tensor) -> torch.Tensor:
            inputs = to_input(clips)
            if trainer.step in steps and distributed.rank() == rank:
                inputs[0, 0, 0, 0, 0] = value
            return inputs

        object.__setattr__(trainer.data, "to_input", spoiled)

    return harm


def bad_gradient(steps: range, *, rank: int, value: float) -> Callable[[Trainer], None]:
    """Harm: the loss is finite, and the gradient of one parameter is not, on one process."""

    def harm(trainer: Trainer) -> None:
        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            if trainer.step in steps and distributed.rank() == rank:
                gradient = gradient.clone()
                gradient[(0,) * gradient.ndim] = value
            return gradient

        next(trainer.model.parameters()).register_hook(spoil)

    return harm


def bad_loss(steps: range, *, rank: int, value: float) -> Callable[[Trainer], None]:
    """Harm: the loss itself, by a constant: no gradient shows it."""

    def harm(trainer: Trainer) -> None:
        loss = trainer.settings.loss

        class Spoiled:
            multi_label = False

            def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
                right = loss(logits, labels)
                return right + value if trainer.step in steps and distributed.rank() == rank else right

        object.__setattr__(trainer.settings, "loss", Spoiled())

    return harm


def left_out_by_hand(steps: range) -> Callable[[Trainer], None]:
    """The obvious reference: weights, momentum and statistics of before the step are put back behind it."""

    def harm(trainer: Trainer) -> None:
        take = trainer.train_step

        def train_step(batches: object) -> None:
            before = None
            if trainer.step in steps:
                weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
                momenta = {
                    parameter: {name: value.clone() for name, value in state.items()}
                    for parameter, state in trainer.optimizer.state.items()
                }
                before = weights, momenta
            take(batches)  # type: ignore[arg-type]
            if before is not None:
                trainer.model.load_state_dict(before[0])
                trainer.optimizer.state.clear()
                trainer.optimizer.state.update(before[1])

        trainer.train_step = train_step  # type: ignore[method-assign, assignment]

    return harm


def skipped(
    home: Path, name: str, harm: Callable[[Trainer], None], steps: range, *, world: int, **settings: object
) -> Case:
    """Steps that do not count leave no trace but their dump."""
    run = TinyRun(home / name.replace(" ", "_") / "s0", harm=harm, settings=settings)
    other = replace(run, folder=home / (name.replace(" ", "_") + "-by_hand") / "s0", harm=left_out_by_hand(steps))
    processes = Processes(run, world=world, log=home / f"{name}.log")
    codes = processes.wait() + Processes(other, world=world, log=home / f"{name}.log").wait()
    if codes != [0] * 2 * world:
        return name, False, f"exit {codes}: {processes.output()[-500:]}"
    records = [json.loads(line) for line in (run.folder / "nonfinite.jsonl").read_text().splitlines()]
    dumped = [record["step"] - 1 for record in records] == list(steps) and all(
        [sample["sample"] for sample in record["samples"]]
        == list(range((record["step"] - 1) * BATCH, record["step"] * BATCH))
        for record in records
    )
    equal = same(run.weights(), other.weights())
    return name, dumped and equal, f"dump {'right' if dumped else records}, weights {'equal' if equal else 'differ'}"


def ended(home: Path, name: str, harm: Callable[[Trainer], None], first: int, *, world: int) -> Case:
    """Too many in a row: exit code 3 on all, the dump names the batch and the last good checkpoint, which is sound."""
    run = TinyRun(home / name.replace(" ", "_") / "s0", harm=harm)
    processes = Processes(run, world=world, log=home / f"{name}.log")
    codes = processes.wait()
    status = json.loads((run.folder / "status.json").read_text())
    if codes != [3] * world or status["state"] != "FAILED":
        return name, False, f"exit {codes}, {status}: {processes.output()[-500:]}"
    record = json.loads((run.folder / "nonfinite.jsonl").read_text().splitlines()[-1])
    checkpoint = Path(record["last_good_checkpoint"])
    step = int(checkpoint.stem[5:])
    good = checkpoint.is_file() and step < max(first, 1) and checkpoint.name in status["reason"]
    videos = len(record["samples"]) == BATCH and all(int(sample["video"]) < 24 for sample in record["samples"])
    return name, good and videos and record["in_a_row"] == 3, f"{record}, {status}"


def explodes(step: int) -> Callable[[Trainer], None]:
    """Harm: a finite step, after which the weights are no longer finite."""

    def harm(trainer: Trainer) -> None:
        def spoil() -> None:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(NAN)

        after(step, rank=distributed.rank(), do=spoil)(trainer)

    return harm


def run_all(home: Path, *, full: bool = True) -> list[Case]:
    kinds = {"input": bad_input, "gradient": bad_gradient, "loss": bad_loss}
    cases = []
    for world, rank in ((1, 0), (2, 0), (2, 1)) if full else ((2, 1),):
        for kind, harm in kinds.items():
            for value in (NAN, INFINITY) if full else (NAN,):
                for steps in (range(5, 6), range(9, 11)) if full else (range(9, 11),):
                    name = (
                        f"{value} in the {kind} of steps {steps.start + 1} to {steps.stop}, process {rank} of {world}"
                    )
                    cases.append(skipped(home, name, harm(steps, rank=rank, value=value), steps, world=world))
    both = range(5, 7)
    name = "nan in one of two micro-batches"
    cases.append(skipped(home, name, bad_input(both, rank=0, value=NAN), both, world=1, accumulate=2))
    for world in (1, 2) if full else (2,):
        harm = bad_input(range(9, 100), rank=world - 1, value=NAN)
        cases.append(ended(home, f"nan in every input from step 10, {world} processes", harm, 9, world=world))
        cases.append(ended(home, f"weights are nan from step 8, {world} processes", explodes(7), 7, world=world))
    return cases
