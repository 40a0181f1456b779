"""The moving average of the weights: PyTorch's against a plain loop, in training, and over a kill."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nlnet.cli import run
from nlnet.config import load_model
from nlnet.config.models import find_checkpoint
from nlnet.engine.averaging import MovingAverage, weights_of
from nlnet.engine.checkpoint import load_checkpoint
from tests.engine.conftest import MakeTrainer, network

DECAY = 0.8


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def test_the_average_of_a_run_is_that_of_a_plain_loop(make_trainer: MakeTrainer) -> None:
    plain = make_trainer("plain")
    history: list[dict[str, Tensor]] = []
    step = plain.train_step

    def recorded(batches: object) -> None:
        step(batches)  # type: ignore[arg-type]
        history.append(copied(plain.model.state_dict()))

    plain.train_step = recorded  # type: ignore[method-assign, assignment]
    plain.fit()
    averaged = make_trainer("averaged", ema=DECAY)
    averaged.fit()
    assert averaged.evaluated is not averaged.model
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, averaged.model.state_dict()[name]), f"{name}: training itself is another"
    for name, found in averaged.evaluated.state_dict().items():
        if not found.is_floating_point():
            continue  # how many batches a norm has seen
        expected = history[0][name].double()
        for state in history[1:]:
            expected = DECAY * expected + (1 - DECAY) * state[name].double()
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
        assert not torch.equal(found, plain.model.state_dict()[name]), name


@pytest.mark.parametrize("precise_bn", [None, 2])
def test_a_run_that_is_cut_off_ends_with_the_same_average(make_trainer: MakeTrainer, precise_bn: int | None) -> None:
    options = {"ema": DECAY, "precise_bn": precise_bn}
    whole = make_trainer("whole", **options)
    whole.fit()
    cut = make_trainer("cut", **options)
    step = cut.train_step

    def stopped_behind_the_fifth(batches: object) -> None:
        if cut.step == 5:
            raise InterruptedError
        step(batches)  # type: ignore[arg-type]

    cut.train_step = stopped_behind_the_fifth  # type: ignore[method-assign, assignment]
    with pytest.raises(InterruptedError):
        cut.fit()
    again = make_trainer("cut", **options)
    again.fit()
    assert again.step == whole.step
    for mine, theirs in ((again.model, whole.model), (again.evaluated, whole.evaluated)):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(tensor, mine.state_dict()[name]), name


def test_the_average_is_what_is_kept_under_the_names_of_the_network(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("kept", ema=DECAY, validate=lambda: {"top1": 0.5, "top5": 1.0, "loss": 1.0, "coverage": 1.0})
    trainer.fit()
    folder = trainer.files.checkpoints
    best, newest = load_checkpoint(folder.best), folder.newest()
    assert newest is not None
    assert best["model"].keys() == network().state_dict().keys()
    network().load_state_dict(weights_of(best))
    for name, tensor in trainer.evaluated.state_dict().items():
        assert torch.equal(weights_of(newest[1])[name], tensor), name
        assert torch.equal(newest[1]["model"][name], trainer.model.state_dict()[name]), name


def test_a_state_goes_from_one_average_into_another() -> None:
    model = network()
    one, other = MovingAverage(model, decay=DECAY), MovingAverage(network(), decay=DECAY)
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        one.update(model)
    other.load_state_dict(one.state_dict())
    for average in (one, other):
        average.update(network())
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_a_trained_network_is_its_average(small: list[str], tmp_path: Path) -> None:
    options = [*small, f"runs={tmp_path}", "name=ema", "trainer.epochs=1", "trainer.ema=0.5"]
    assert run("train", options) == 0
    folder = tmp_path / "ema" / "s0"
    state = load_checkpoint(find_checkpoint(folder))
    for name, tensor in load_model(folder).model.state_dict().items():
        assert torch.equal(tensor, state["ema"]["weights"][name]), name
    assert any(not torch.equal(tensor, state["model"][name]) for name, tensor in state["ema"]["weights"].items())
