"""The published recipes: learning rates by the iteration, numbers of iterations, and long clips in two stages."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nlnet.cli import run
from nlnet.config.compose import build, check, compose
from nlnet.config.models import find_checkpoint, load_model
from nlnet.engine.checkpoint import load_checkpoint
from nlnet.engine.trainer import total_steps
from tests.conftest import SMALL

KINETICS = 234_643  # training videos of the authors' copy of Kinetics-400

SLOWFAST = ["experiment=slowfast_i3d_nl5_r50_8x8"]
IN1K = [*SLOWFAST, "schedule=slowfast_steps", "model/init=imagenet", "optim.lr=0.01", "trainer.epochs=118"]
AUTHORS_400K = {0: 1e-2, 149_999: 1e-2, 150_000: 1e-3, 299_999: 1e-3, 300_000: 1e-4, 399_999: 1e-4}
AUTHORS_300K = {0: 1e-2, 149_999: 1e-2, 150_000: 1e-3, 249_999: 1e-3, 250_000: 1e-4, 299_999: 1e-4}
HALF_OF_THAT = {iteration: lr / 2 for iteration, lr in AUTHORS_300K.items()}
A_QUARTER = {iteration: lr / 4 for iteration, lr in AUTHORS_400K.items()}

# Overrides of a recipe, its iterations, and the learning rate of some of them as its authors' files have it
# (video-nonlocal-net configs/*.yaml: STEP_SIZES and LRS; the fourth of LRS begins where the run ends).
BY_ITERATION = [
    (["experiment=i3d_nl5_r50_8x8"], 400_000, AUTHORS_400K),
    (["experiment=paper_i3d_nl5_r50"], 400_000, AUTHORS_400K),
    (["experiment=i3d_r50_8x8_300k"], 300_000, AUTHORS_300K),
    (["experiment=i3d_r50_8x8_600k_4gpu"], 600_000, {2 * k + k % 2: lr for k, lr in HALF_OF_THAT.items()}),
    (["experiment=i3d_r50_8x8_300k_4gpu"], 300_000, HALF_OF_THAT),
    (["experiment=i3d_nl5_r50_32x4"], 400_000, A_QUARTER),
    (["experiment=i3d_nl5_r50_128x1"], 400_000, A_QUARTER),
    (["experiment=paper_i3d_nl5_r50_128x1"], 400_000, A_QUARTER),
]


def rate(overrides: list[str]) -> Callable[[float], float]:
    """Progress -> the learning rate of a recipe as its config has it, batch and all."""
    config = compose("train", [*overrides, "data.root=x"])
    check(config)
    schedule = build(config.schedule)
    (group, _) = build(config.optim)(nn.Linear(1, 1), batch_size=config.trainer.batch_size).param_groups
    return lambda progress: float(group["lr"] * schedule(progress))


@pytest.mark.parametrize(("overrides", "iterations", "rates"), BY_ITERATION)
def test_rates_by_iteration(overrides: list[str], iterations: int, rates: dict[int, float]) -> None:
    settings = build(compose("train", [*overrides, "data.root=x"]).trainer)
    assert total_steps(settings, KINETICS) == pytest.approx(iterations, rel=1e-3)
    lr = rate(overrides)
    for iteration, expected in rates.items():
        assert lr(iteration / iterations) == pytest.approx(expected), iteration


MMACTION2 = {0: 1e-2, 39.9: 1e-2, 40: 1e-3, 79.9: 1e-3, 80: 1e-4, 99.9: 1e-4}

# Epochs of a recipe and its learning rates by epoch (SlowFast configs/Kinetics, MMAction2 configs/recognition).
BY_EPOCH = [
    (IN1K, 118, {0: 1e-2, 43.99: 1e-2, 44: 1e-3, 87.99: 1e-3, 88: 1e-4, 117.9: 1e-4}),
    (["experiment=mmaction2_i3d_nl5_r50_32x2"], 100, MMACTION2),
    (["experiment=mmaction2_c2d_r50_8x8"], 100, MMACTION2),  # of 256 clips
    (
        ["schedule=mmaction2_tsm", "optim.lr=0.02", "optim.reference_batch=128", "trainer.batch_size=128"],
        50,
        {0: 2e-3, 2.5: 1.1e-2, 5: 2e-2, 24.9: 2e-2, 25: 2e-3, 44.9: 2e-3, 45: 2e-4},
    ),
    (["schedule=mmaction2_slowonly"], 150, {0: 1e-3, 10: 1e-2, 89.9: 1e-2, 90: 1e-3, 129.9: 1e-3, 130: 1e-4}),
]


@pytest.mark.parametrize(("overrides", "epochs", "rates"), BY_EPOCH)
def test_rates_by_epoch(overrides: list[str], epochs: float, rates: dict[float, float]) -> None:
    if overrides[0].startswith("experiment"):
        assert compose("train", overrides).trainer.epochs == epochs
    lr = rate(overrides)
    for epoch, expected in rates.items():
        assert lr(epoch / epochs) == pytest.approx(expected, rel=1e-5), epoch


def test_the_cosine_of_slowfast() -> None:
    """slowfast/utils/lr_policy.py, written out: 34 epochs from 0.01 to where half a cosine from 0.1 is after them."""
    assert compose("train", SLOWFAST).trainer.epochs == 196
    lr = rate(SLOWFAST)
    for epoch in (0, 1, 17, 33.9, 34, 35, 98, 150, 195.9):
        expected = 0.1 * (math.cos(math.pi * epoch / 196) + 1) * 0.5
        if epoch < 34:
            end = 0.1 * (math.cos(math.pi * 34 / 196) + 1) * 0.5
            expected = epoch * (end - 0.01) / 34 + 0.01
        assert lr(epoch / 196) == pytest.approx(expected, rel=1e-4), epoch


def test_mmaction2_decays_batch_norm_and_has_no_nesterov() -> None:
    config = compose("train", ["experiment=mmaction2_i3d_r50_32x2", "optim.weight_decay=0.003", "data.root=x"])
    assert config.trainer.clip_gradient == 40
    optimizer = build(config.optim)(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), batch_size=64)
    assert [(group["weight_decay"], group["nesterov"]) for group in optimizer.param_groups] == [(0.003, False)] * 2


# Long clips in two stages, in miniature ------------------------------------------------------------------------------

LONG = ["data/clip=8x2", "init=checkpoint", "trainer.batch_size=3", "trainer.epochs=1", "trainer.checkpoint_every=0.25"]
BLOCKS = ["model/placement=small", "model.non_local.output.norm=false"]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, class_folder: Path) -> tuple[Path, list[str]]:
    """A first stage, with measured statistics, and the overrides that all stages share."""
    runs = tmp_path_factory.mktemp("runs")
    common = [*SMALL, f"data.root={class_folder}", f"runs={runs}"]
    assert run("train", [*common, "name=short", "trainer.precise_bn=3", "trainer.epochs=1"]) == 0
    return runs, common


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(find_checkpoint(folder))["model"]
    return state


def test_a_second_stage_starts_as_the_first_ended_with_its_statistics_folded(
    short: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage that learns nothing is the network before, though it has new blocks; one that learns is not."""
    runs, common = short
    assert "precise batch norm" in (runs / "short" / "s0" / "log.txt").read_text()
    stage = [*common, *LONG, *BLOCKS, "batch_norm=folded", f"init.path={runs}/short/s0"]
    assert run("train", [*stage, "name=still", "optim.lr=0"]) == 0
    assert run("train", [*stage, "name=long"]) == 0
    first, still, long = (load_model(runs / name / "s0").model for name in ("short", "still", "long"))
    torch.manual_seed(0)
    clip = torch.randn(2, 3, 8, 28, 28)
    torch.testing.assert_close(still(clip), first(clip), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(long(clip), first(clip), atol=1e-2)
    before, after = still.state_dict(), long.state_dict()
    norms = [name.removesuffix(".running_var") for name in after if name.endswith(".running_var")]
    assert norms
    assert not any("nl" in norm for norm in norms)
    for norm in norms:
        assert not after[f"{norm}.running_mean"].any()
        torch.testing.assert_close(after[f"{norm}.running_var"], torch.full_like(after[f"{norm}.bias"], 1 - 1e-5))
    assert any(not torch.equal(after[f"{norm}.weight"], before[f"{norm}.weight"]) for norm in norms), "scales train"
    assert run("test", [str(runs / "long" / "s0"), "data/views=10x1"]) == 0
    capsys.readouterr()


def test_a_second_stage_resumes(short: tuple[Path, list[str]]) -> None:
    runs, common = short
    stage = [*common, *LONG, "batch_norm=folded", f"init.path={runs}/short/s0", "keep_checkpoints=9"]
    for name in ("whole", "cut"):
        assert run("train", [*stage, f"name={name}"]) == 0
    folder = runs / "cut" / "s0"
    for path in sorted((folder / "checkpoints").glob("step_*.pt"))[2:]:
        path.unlink()
    (folder / "status.json").unlink()
    assert run("train", [*stage, "name=cut"]) == 0
    assert "resuming at step" in (folder / "log.txt").read_text()
    for name, tensor in weights(runs / "whole" / "s0").items():
        assert torch.equal(tensor, weights(folder)[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["init.path={runs}/nothing/s0"], "init.path={runs}/nothing/s0: no such checkpoint"),
        (["init.path={runs}/blocks/s0", *BLOCKS], "model.non_local.output.norm=true"),
    ],
)
def test_a_first_stage_that_does_not_fit_is_refused(
    short: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    runs, common = short
    if not (runs / "blocks").exists():
        assert run("train", [*common, "model/placement=small", "name=blocks", "trainer.epochs=0.5"]) == 0
    capsys.readouterr()
    changes = [change.format(runs=runs) for change in changes]
    assert run("train", [*common, *LONG, *changes, "name=wrong"]) == 2
    assert message.format(runs=runs) in capsys.readouterr().err
