"""What is copied, what stays, and that it is said."""

import torch
from torch import nn

from nlnet.weights.transfer import transfer


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_everything_that_fits_is_copied() -> None:
    source, model = make_model().state_dict(), make_model()
    for tensor in source.values():
        tensor += 1
    result = transfer(model, source)
    assert set(result.loaded) == set(source)
    assert result.new == ()
    assert result.left_out == {}
    assert result.lines() == ["loaded 9 tensors"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, source[name])
        assert tensor.data_ptr() != source[name].data_ptr()


def test_what_does_not_fit_stays_and_is_said() -> None:
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source = {
        "0.weight": torch.ones(4, 3),
        "0.bias": torch.ones(4),
        "2.weight": torch.ones(7, 4),  # another number of classes
        "2.bias": torch.ones(7),
        "3.weight": torch.ones(1),
        "lonely": torch.ones(1),
    }
    result = transfer(model, source)
    assert result.loaded == ("0.weight", "0.bias")
    assert result.new == ("1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias")
    assert result.left_out == {
        "2.weight": "[7, 4] here [2, 4]",
        "2.bias": "[7] here [2]",
        "3.weight": "not in this network",
        "lonely": "not in this network",
    }
    assert result.lines() == [
        "loaded 2 tensors",
        "newly initialised: 1, 2",
        "left out: 2 ([7, 4] here [2, 4]), 2 ([7] here [2]), 3 (not in this network), lonely (not in this network)",
    ]
    for name, tensor in model.state_dict().items():
        expected = source[name] if name in result.loaded else before[name]
        assert torch.equal(tensor, expected), name


def test_the_source_is_left_alone() -> None:
    source = {"0.weight": torch.ones(4, 3), "3": torch.ones(1)}
    transfer(make_model(), source)
    assert list(source) == ["0.weight", "3"]
    assert torch.equal(source["0.weight"], torch.ones(4, 3))


def test_missing_batch_counters_are_no_news() -> None:
    state = {name: tensor for name, tensor in make_model().state_dict().items() if "num_batches" not in name}
    assert transfer(make_model(), state).new == ()
