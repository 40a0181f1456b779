"""Signals and hangs: asked to stop at a step boundary, and an end for what does not go on."""

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from nlnet.engine.evaluator import evaluate
from nlnet.engine.faults import Watch
from nlnet.errors import Preempted
from tests.engine.conftest import MakeTrainer, network, to_input
from tests.engine.test_trainer import assert_equal, weights


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_once_there_is_something_to_save(number: int) -> None:
    before = signal.getsignal(number)
    with Watch() as watch:
        assert not watch.alive()
        os.kill(os.getpid(), number)
        assert watch.alive()
        assert watch.asked == signal.Signals(number).name
    assert signal.getsignal(number) == before


def test_a_signal_before_the_first_step_ends_the_run_at_once() -> None:
    with Watch(), pytest.raises(Preempted, match="SIGTERM before the first step"):
        signal.raise_signal(signal.SIGTERM)


def test_a_forked_process_does_not_take_the_signal_for_its_own() -> None:
    with Watch() as watch:
        watch.alive()
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1 if watch.asked else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("when", ["in a step", "in a validation"])
def test_a_run_that_was_asked_to_stop_goes_on_as_if_it_was_not(make_trainer: MakeTrainer, when: str) -> None:
    done: dict[str, list[int]] = {"whole": [], "first": [], "second": []}
    start = "whole"

    def validate() -> dict[str, float]:
        if start == "first" and when == "in a validation" and trainer.step == 4:
            raise Preempted("asked to stop in the middle of an evaluation")
        done[start].append(trainer.step)
        return {"top1": 0.5, "top5": 1.0, "loss": 0.1, "coverage": 1.0}

    trainer = whole = make_trainer("whole", validate_every=0.8, validate=validate)
    whole.fit()

    start = "first"
    trainer = make_trainer("run", validate_every=0.8, validate=validate)
    step = trainer.train_step

    def train_step(batches: object) -> None:
        if when == "in a step" and trainer.step == 3:  # a validation is due behind it
            trainer.files.watch.asked = "SIGTERM"
        step(batches)  # type: ignore[arg-type]

    trainer.train_step = train_step  # type: ignore[method-assign, assignment]
    with pytest.raises(Preempted, match="after step 4 of 8; the same command goes on"):
        trainer.fit()

    start = "second"
    trainer = make_trainer("run", model=network(), validate_every=0.8, validate=validate)
    trainer.fit()
    assert done["first"] == [2]
    assert done["second"][0] == 4, "what was due is done"
    assert done["first"] + done["second"] == done["whole"]
    assert_equal(weights(whole.model), weights(trainer.model))


def test_an_evaluation_that_is_asked_to_stop_says_so_behind_its_exchange() -> None:
    def samples():  # type: ignore[no-untyped-def]
        raise Preempted("asked")
        yield

    model, cpu = network(), torch.device("cpu")
    with pytest.raises(Preempted, match="asked"):
        evaluate(model, samples(), to_input=to_input, device=cpu, num_videos=3, num_classes=3)
    assert model.training, "it is as it was"


def test_what_hangs_ends_itself_with_its_stacks(tmp_path: Path) -> None:
    told = tmp_path / "told"
    pid = os.fork()
    if pid == 0:
        with Watch(tmp_path, start_timeout_s=60, step_timeout_s=0.3, on_hang=told.write_text) as watch:
            watch.alive()
            threading.Event().wait(60)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "0.3 s (step_timeout)" in told.read_text()
    log = (tmp_path / "log.rank0.txt").read_text()
    assert "test_what_hangs_ends_itself_with_its_stacks" in log
    assert "most recent call first" in log
