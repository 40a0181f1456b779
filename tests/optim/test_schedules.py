"""Learning-rate schedules against the recipes that they are named after."""

import math
import pickle

import pytest

from nlnet.errors import ConfigError
from nlnet.optim.schedules import Cosine, LinearWarmup, Step


def test_step_is_the_papers_recipe() -> None:
    """Divided by 10 every 150k of 400k iterations."""
    schedule = Step()
    for iteration in range(0, 400_000, 1000):
        assert schedule(iteration / 400_000) == pytest.approx(0.1 ** (iteration // 150_000))


@pytest.mark.parametrize("steps", [10, 30, 7, 300_000])
def test_a_milestone_is_the_first_step_with_the_lower_rate(steps: int) -> None:
    schedule = Step(milestones=(0.5, 0.9), gamma=0.5)
    for step in range(0, steps, max(1, steps // 100)):
        passed = (2 * step >= steps) + (10 * step >= 9 * steps)
        assert schedule(step / steps) == 0.5**passed


def test_step_without_milestones_is_constant() -> None:
    assert {Step(milestones=())(progress / 10) for progress in range(10)} == {1.0}


def test_cosine_falls_from_one_to_zero() -> None:
    schedule = Cosine()
    values = [schedule(step / 100) for step in range(101)]
    assert values[0] == 1
    assert values[50] == pytest.approx(0.5)
    assert values[100] == pytest.approx(0)
    assert values == sorted(values, reverse=True)
    for step, value in enumerate(values):
        assert value == pytest.approx(math.cos(math.pi * step / 200) ** 2)  # half-angle form of the same curve


@pytest.mark.parametrize("schedule", [Step, Cosine])
def test_warmup_is_linear_and_ends_on_the_curve(schedule: type[Step] | type[Cosine]) -> None:
    plain, warm = schedule(), schedule(warmup=0.2, warmup_start=0.01)
    factors = [warm(step / 100) / plain(step / 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.01)
    for step in range(20):
        assert factors[step + 1] - factors[step] == pytest.approx(0.99 / 20)
    assert factors[20:] == [1.0] * 80


@pytest.mark.parametrize("curve", [Cosine(), Step(), Step(milestones=(0.1, 0.5))])
def test_a_line_to_the_curve(curve: Step | Cosine) -> None:
    schedule = LinearWarmup(curve, warmup=0.2, start=0.05)
    assert schedule(0) == 0.05
    for step in range(200):
        progress = step / 1000
        line = 0.05 * (1 - progress / 0.2) + curve(0.2) * progress / 0.2
        assert schedule(progress) == pytest.approx(line)
    for step in range(200, 1000):
        assert schedule(step / 1000) == curve(step / 1000)
    assert LinearWarmup(curve, warmup=0.0, start=0.05)(0) == curve(0)


def test_a_line_of_slowfasts_epochs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.warmup is a fraction of the run"):
        LinearWarmup(Cosine(), warmup=34, start=0.1)


@pytest.mark.parametrize("milestones", [(0.75, 0.375), (0.5, 1.0), (0.0, 0.5), (-0.1,), (150_000, 300_000)])
def test_wrong_milestones_are_refused(milestones: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"schedule\.milestones are rising fractions of the run"):
        Step(milestones=milestones)


@pytest.mark.parametrize("schedule", [Step, Cosine])
@pytest.mark.parametrize("warmup", [-0.1, 1.0, 34])
def test_a_warmup_that_is_no_fraction_is_refused(schedule: type[Step] | type[Cosine], warmup: float) -> None:
    """SlowFast's recipe counts warm-up epochs; 34 of them here would never end."""
    with pytest.raises(ConfigError, match=r"schedule\.warmup is a fraction of the run"):
        schedule(warmup=warmup)


@pytest.mark.parametrize(
    "schedule", [Step(), Step(milestones=[0.2]), Cosine(warmup=0.1), LinearWarmup(Cosine(), 0.1, 0.2)]
)
def test_schedules_are_plain_values(schedule: Step | Cosine | LinearWarmup) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule(0.3) == schedule(0.3)
