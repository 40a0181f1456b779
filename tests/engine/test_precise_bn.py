"""Precise batch norm against statistics of all inputs of a layer together, in double precision."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nlnet.engine.precise_bn import measure_statistics
from nlnet.models import batch_norm
from nlnet.models.non_local import NonLocalBlock, Output
from tests.conftest import REPOSITORY
from tests.engine.conftest import MakeTrainer, network

PROCESSES = 2


def deep_network() -> nn.Module:
    """Three norms behind one another, of two kinds, one of them in a non-local block with a scale that is not 0."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1),
        nn.BatchNorm3d(6, momentum=0.3),
        nn.ReLU(),
        NonLocalBlock(6, output=Output(scale_init=1.0), weight_std=None),
        nn.Conv3d(6, 4, 3),
        nn.BatchNorm3d(4, momentum=None),
        nn.Flatten(),
    )


def batches(start: int, stop: int) -> list[Tensor]:
    """Clips [B, 3, 3, 6, 6] far from zero, of two batch sizes: a function of their numbers."""
    return [
        5 + 2 * torch.randn(2 + number % 2, 3, 3, 6, 6, generator=torch.Generator().manual_seed(number))
        for number in range(start, stop)
    ]


def norms(model: nn.Module) -> dict[str, _BatchNorm]:
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def expected(clips: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of all that each norm of ``deep_network`` gets, written out: collected, joined, reduced."""
    model = deep_network().double().train()
    seen: dict[str, list[Tensor]] = {name: [] for name in norms(model)}
    for name, module in norms(model).items():
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].detach()))
    for batch in clips:
        model(batch.double())
    together = {name: torch.cat([x.transpose(0, 1).flatten(1) for x in inputs], 1) for name, inputs in seen.items()}
    return {name: (x.mean(1), x.var(1, correction=0)) for name, x in together.items()}


def assert_measured(model: nn.Module, clips: list[Tensor]) -> None:
    for name, (mean, variance) in expected(clips).items():
        module = norms(model)[name]
        torch.testing.assert_close(module.running_mean.double(), mean, rtol=1e-5, atol=1e-6, msg=name)
        torch.testing.assert_close(module.running_var.double(), variance, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_those_of_all_clips_together(training: bool) -> None:
    model = deep_network().train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "running" not in name}
    assert measure_statistics(model, batches(0, 7)) == 3
    assert_measured(model, batches(0, 7))
    assert model.training == training
    for name, tensor in before.items():  # weights and batch counters
        assert torch.equal(model.state_dict()[name], tensor), name
    assert not any(module._forward_pre_hooks for module in norms(model).values())


def test_what_was_there_before_does_not_matter() -> None:
    left, right = deep_network(), deep_network()
    for batch in batches(20, 25):
        right(batch)
    for model in (left, right):
        measure_statistics(model, batches(0, 4))
    for name, module in norms(left).items():
        assert torch.equal(module.running_mean, norms(right)[name].running_mean)
        assert torch.equal(module.running_var, norms(right)[name].running_var)


@pytest.mark.parametrize("freeze", [batch_norm.frozen_statistics, batch_norm.folded, batch_norm.frozen])
def test_fixed_statistics_stay(freeze) -> None:  # type: ignore[no-untyped-def]
    model = freeze(deep_network())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert measure_statistics(model, iter(lambda: pytest.fail("nothing to measure, yet a clip is read"), None)) == 0
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def share(rank: int) -> list[Tensor]:
    """The clips of one process; the processes have different numbers of them."""
    return batches(10 * rank, 10 * rank + 3 + rank)


def measured_in_a_group(rank: int, file: str) -> dict[str, list[float]]:
    """What one of several processes ends with."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=PROCESSES)
    model = deep_network()
    measure_statistics(model, share(rank))
    torch.distributed.destroy_process_group()
    return {name: tensor.double().flatten().tolist() for name, tensor in model.state_dict().items()}


def test_several_processes_measure_all_their_clips_and_end_equal(tmp_path: Path) -> None:
    code = (
        "import json, sys; from tests.engine.test_precise_bn import measured_in_a_group as run; "
        "print(json.dumps(run(int(sys.argv[1]), sys.argv[2])))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(tmp_path / "store")],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    states = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert states[0] == states[1]
    model = deep_network()
    model.load_state_dict(
        {name: torch.tensor(states[0][name]).view_as(tensor) for name, tensor in model.state_dict().items()}
    )
    assert_measured(model, [clip for rank in range(PROCESSES) for clip in share(rank)])


SCORES = dict.fromkeys(("top1", "top5", "loss", "coverage"), 0.5)


def test_training_is_the_same_with_and_without_it(make_trainer: MakeTrainer) -> None:
    """The weights to the bit, for any number of validations; only the running statistics are others."""
    without = make_trainer("without")
    often = make_trainer("often", precise_bn=3, validate_every=0.4, validate=lambda: SCORES)
    rarely = make_trainer("rarely", precise_bn=3, checkpoint_every=2)
    for trainer in (without, often, rarely):
        trainer.fit()
    for name, tensor in often.model.state_dict().items():
        assert torch.equal(tensor, rarely.model.state_dict()[name]), name
        assert ("running" in name) != torch.equal(tensor, without.model.state_dict()[name]), name


def test_checkpoints_and_validations_have_the_statistics_of_their_weights(make_trainer: MakeTrainer) -> None:
    """Measured anew from the saved weights, with the clips of the next steps."""
    seen: list[dict[str, Tensor]] = []

    def validate() -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
        return SCORES

    trainer = make_trainer(precise_bn=2, validate_every=1.2, checkpoint_every=1.2, accumulate=2, validate=validate)
    trainer.fit()
    saved = [torch.load(path) for path in sorted(trainer.files.checkpoints.path.glob("step_*.pt"))]
    assert [state["step"] for state in saved] == [3, 6, 8]
    for state, validated in zip(saved, seen, strict=True):
        fresh = network()
        fresh.load_state_dict({**state["model"], "1.running_mean": torch.ones(4), "1.running_var": torch.ones(4)})
        following = trainer.data.batches(state["step"], state["step"] + 2)
        measure_statistics(fresh, [trainer.data.to_input(batch.clips) for batch in following])
        for name, tensor in fresh.state_dict().items():
            assert torch.equal(tensor, state["model"][name]), name
            assert torch.equal(tensor, validated[name]), name


def test_a_run_stopped_and_resumed_ends_the_same(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole", precise_bn=2)
    whole.fit()
    cut = make_trainer("cut", precise_bn=2)
    cut.fit()
    for path in sorted(cut.files.checkpoints.path.glob("step_*.pt"))[3:]:
        path.unlink()
    resumed = make_trainer("cut", precise_bn=2, checkpoint_every=10, model=network())
    resumed.fit()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
