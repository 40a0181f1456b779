"""The estimate of memory against a step with numbers, and errors that say what helps."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nlnet.benchmark.memory import compare
from nlnet.benchmark.networks import Network
from nlnet.engine.losses import BinaryCrossEntropy, CrossEntropy, Loss
from nlnet.engine.memory import HOLES, estimate, held, out_of_memory_explained, resident
from nlnet.engine.precision import Precision
from nlnet.errors import OutOfMemory
from nlnet.optim.groups import sgd

CPU = torch.device("cpu")


def to_input(clips: torch.Tensor) -> torch.Tensor:
    return clips.permute(0, 4, 1, 2, 3).float()


@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy()], ids=["one label", "several"])
def test_an_estimate_by_hand(loss: Loss) -> None:
    """A network with nothing but a large linear map of a large input."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 8 * 8, 20_000), nn.ReLU(), nn.Linear(20_000, 5))
    weights = held(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = estimate(
        model,
        sgd(model, batch_size=2, lr=0.1),
        clips=(2, 4, 8, 8),
        classes=5,
        to_input=to_input,
        loss=loss,
        precision=Precision("fp32", CPU),
    )
    # Behind the weights, in the process already: momentum and gradients.
    clips = 2 * 4 * 8 * 8 * 3 * (1 + 4)
    assert (found - resident()) / HOLES == pytest.approx(2 * weights + clips, rel=0.05, abs=2**20)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "overrides", [[], ["model/placement=tiny", "trainer.recompute=[res3]"]], ids=["plain", "recomputed"]
)
def test_estimates_are_what_a_process_takes(overrides: list[str]) -> None:
    """Above 1 GB within 15 %; docs/performance.md has the networks of the paper."""
    network = Network(("model=c2d_tiny", *overrides), frames=8, crop=224)
    record = compare(network, batch=10, precision="fp32", device=CPU, measure=True)
    assert record["measured"] > 1e9
    assert record["estimate"] == pytest.approx(record["measured"], rel=0.15)


def out_of_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")


def out_of_cpu() -> None:
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("fail", [out_of_gpu, out_of_cpu])
def test_out_of_memory_names_what_helps(fail: Callable[[], None]) -> None:
    with pytest.raises(OutOfMemory) as caught, out_of_memory_explained(CPU):
        fail()
    text = str(caught.value)
    assert "\n" not in text
    for option in ("trainer.accumulate", "trainer.recompute", "trainer.precision=bf16", "data.augment.crop"):
        assert option in text


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory_explained(CPU):
        raise RuntimeError("shapes do not match")
