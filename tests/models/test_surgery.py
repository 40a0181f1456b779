"""Blocks in other people's networks: unchanged output at first, trainable, the same names in the state dict."""

import copy
import pickle
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.segmentation import fcn_resnet50
from torchvision.models.video import mc3_18, r3d_18

import nlnet
from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.pairwise import Concatenation, DotProduct, Gaussian
from nlnet.models.surgery import remove_non_local


def sequence_network() -> nn.Sequential:
    """A network for sequences. [B, 4, T] -> [B, 3]."""
    return nn.Sequential(
        nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(inplace=True)),
        nn.Conv1d(8, 12, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


Places = dict[str, Callable[[int], nn.Module]]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Places]] = {
    "resnet50": (
        partial(resnet50, weights=None),
        (2, 3, 64, 64),
        {"layer2.1": NonLocalBlock, "layer3.4": partial(NonLocalBlock, pairwise=DotProduct)},
    ),
    "r3d_18": (
        partial(r3d_18, weights=None),
        (2, 3, 4, 32, 32),
        {"layer2.0": NonLocalBlock, "layer3": partial(NonLocalBlock, axes="time")},
    ),
    "mc3_18": (
        partial(mc3_18, weights=None),
        (2, 3, 4, 32, 32),
        {"layer3.1.conv1": NonLocalBlock, "layer4.0": partial(NonLocalBlock, axes="space", subsample="none")},
    ),
    "fcn_resnet50": (
        partial(fcn_resnet50, weights=None, weights_backbone=None, num_classes=4),
        (2, 3, 48, 48),
        {"backbone.layer3.5": partial(NonLocalBlock, embedding=16), "classifier.2": NonLocalBlock},
    ),
    "sequences": (
        sequence_network,
        (2, 4, 21),
        {"0": partial(NonLocalBlock, pairwise=Gaussian), "1": partial(NonLocalBlock, pairwise=Concatenation)},
    ),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def original(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval(), torch.randn(NETWORKS[name][1])


def built(name: str) -> tuple[nn.Module, Tensor]:
    """The network with random weights, and an input: a copy, which is quicker than random numbers for all weights."""
    return copy.deepcopy(original(name))


def inserted(name: str) -> tuple[nn.Module, Tensor]:
    model, x = built(name)
    assert nlnet.insert_non_local(model, NETWORKS[name][2], example=x) is model
    return model, x


def output(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    return y["out"] if isinstance(y, dict) else y


def non_local(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if "non_local" in name}


@every_network
def test_the_output_is_unchanged_bit_for_bit_and_every_name_stays(name: str) -> None:
    plain, x = built(name)
    model, _ = inserted(name)
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    places = NETWORKS[name][2]
    assert {key.partition(".non_local.")[0] for key in missing} == set(places)
    with torch.no_grad():
        expected = output(plain, x)
        assert (expected[0] != expected[1]).any()  # the network computes something
        assert torch.equal(output(model, x), expected)
        trained = []
        for network in (plain, model):  # dropout draws the same numbers: the blocks draw none
            torch.manual_seed(1)
            trained.append(output(network.train(), x))
        assert torch.equal(*trained)


@every_network
def test_a_step_of_the_new_parameters_alone_changes_the_output(name: str) -> None:
    model, x = inserted(name)
    before = output(model, x)
    parameters = non_local(model)
    optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
    output(model, x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for place in NETWORKS[name][2]:
        scale = parameters[f"{place}.non_local.bn.weight"]
        assert scale.grad is not None
        assert scale.grad.abs().max() > 0, place
    optimizer.step()
    assert not torch.equal(output(model, x), before)


@every_network
def test_a_state_dict_goes_into_a_freshly_built_network_and_into_copies(name: str) -> None:
    model, x = inserted(name)
    with torch.no_grad():
        for parameter in non_local(model).values():
            parameter.uniform_(-0.2, 0.2)
        changed = output(model, x)
        assert not torch.equal(changed, output(built(name)[0], x))
        fresh, _ = inserted(name)
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(output(fresh, x), changed)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(output(other, x), changed)
            for parameter in non_local(other).values():
                parameter.zero_()
            assert not torch.equal(output(other, x), changed), "a copy has blocks of its own"
        assert torch.equal(output(model, x), changed)


@pytest.mark.parametrize("name", ["r3d_18", "sequences"])
def test_torch_export_takes_the_blocks_along(name: str) -> None:
    model, x = inserted(name)
    with torch.no_grad():
        for parameter in non_local(model).values():
            parameter.uniform_(-0.2, 0.2)
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
        longer = torch.cat([x, x.flip(-1)])
        torch.testing.assert_close(exported(longer), model(longer))


@every_network
def test_blocks_can_be_taken_out_again(name: str) -> None:
    plain, x = built(name)
    model, _ = inserted(name)
    with torch.no_grad():
        for parameter in non_local(model).values():
            parameter.uniform_(-0.2, 0.2)
        remove_non_local(model, NETWORKS[name][2])
        assert model.state_dict().keys() == plain.state_dict().keys()
        assert torch.equal(output(model, x), output(plain, x))
    with pytest.raises(ConfigError, match="no non-local block follows it"):
        remove_non_local(model, NETWORKS[name][2])


def test_blocks_take_the_mode_and_the_number_type_of_their_place() -> None:
    model = sequence_network().double().train()
    model[1].eval()
    statistics = copy.deepcopy(model[0][1].state_dict())
    nlnet.insert_non_local(model, {"0.0": NonLocalBlock, "1": NonLocalBlock}, example=torch.randn(2, 4, 9).double())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model[0][0].non_local.training
    assert not model[1].non_local.training
    assert model.training
    assert all(torch.equal(statistics[key], tensor) for key, tensor in model[0][1].state_dict().items())


def test_ready_made_blocks_need_no_example() -> None:
    model = sequence_network()
    blocks = {"0": NonLocalBlock(8), "2": NonLocalBlock(12)}
    nlnet.insert_non_local(model, blocks)
    assert model[0].non_local is blocks["0"]
    assert model(torch.randn(2, 4, 9)).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"1: how many channels.*example=INPUT"):
        nlnet.insert_non_local(model, {"1": NonLocalBlock})
    shared = NonLocalBlock(12)
    with pytest.raises(ConfigError, match="share its weights"):
        nlnet.insert_non_local(model, {"1": shared, "3": shared})


class Odd(nn.Module):
    """One module used twice, one that gives a tuple, and one that runs its own children."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv1d(4, 4, 1)
        self.unused = nn.Conv1d(4, 4, 1)
        self.pair = nn.LSTM(4, 4)
        self.parts = nn.ModuleList([nn.Conv1d(4, 4, 1)])
        self.all_children = AllChildren()

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts[0](self.twice(self.twice(x)))
        y, _ = self.pair(x.mT)
        return self.all_children(y.mT).mean(2)


class AllChildren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("twice", "twice: used 2 times in one run"),
        ("unused", "unused: used 0 times"),
        ("pair", "pair: its output is of type tuple; name a module"),
        ("parts", "parts: its parts are run one by one"),
        ("parts.1", r"parts\.1: the network has no such module; did you mean parts\.0"),
        ("all_children", "all_children: runs what is inside it in its own way"),
        ("", r"the model: gives torch\.float32 \[2, 4\]; a block follows"),
    ],
)
def test_where_no_block_can_go_is_said_and_nothing_is_changed(place: str, message: str) -> None:
    model = Odd()
    before = list(model.state_dict())
    with pytest.raises(ConfigError, match=message):
        nlnet.insert_non_local(model, {"parts.0": NonLocalBlock, place: NonLocalBlock}, example=torch.randn(2, 4, 5))
    assert list(model.state_dict()) == before
    assert not any(module._forward_hooks for module in model.modules())


def test_a_dictionary_of_outputs_and_a_second_block_are_refused() -> None:
    model, x = inserted("fcn_resnet50")
    with pytest.raises(ConfigError, match="the model: its output is of type OrderedDict"):
        nlnet.insert_non_local(model, {"": NonLocalBlock}, example=x)
    with pytest.raises(ConfigError, match=r"backbone: its parts are run one by one .*IntermediateLayerGetter"):
        nlnet.insert_non_local(model, {"backbone": NonLocalBlock}, example=x)
    with pytest.raises(ConfigError, match=r"classifier\.2: already has a non_local"):
        nlnet.insert_non_local(model, {"classifier.2": NonLocalBlock}, example=x)


def test_a_block_that_cannot_work_there_leaves_nothing_behind() -> None:
    model = sequence_network()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match="9 frames"):
        nlnet.insert_non_local(model, {"0": partial(NonLocalBlock, groups=4)}, example=torch.randn(1, 4, 9))
    assert list(model.state_dict()) == before
