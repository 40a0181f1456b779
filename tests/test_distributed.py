"""One process is not a special case: every function works without a process group, and in a group of one."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from nlnet import distributed


def check_all_functions() -> None:
    """What holds in one process, with and without a group."""
    assert (distributed.rank(), distributed.world_size(), distributed.local_rank()) == (0, 1, 0)
    assert distributed.is_main()
    distributed.barrier()
    assert distributed.gather({"a": [1, None]}) == [{"a": [1, None]}]
    assert distributed.gather_on_main({"a": [1, None]}) == [{"a": [1, None]}]
    assert distributed.broadcast(("x", 2)) == ("x", 2)
    values = torch.tensor([1.0, 2.0])
    assert distributed.sum_across(values).tolist() == [1.0, 2.0]
    assert values.tolist() == [1.0, 2.0]
    assert distributed.on_main(lambda: 7) == 7
    with pytest.raises(KeyError, match="missing"):
        distributed.on_main(lambda: {}["missing"])
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    replica = distributed.replicate(model, torch.device("cpu"))
    for when in (True, False):
        with distributed.without_averaging(replica, when=when):
            replica(torch.randn(4, 2)).sum().backward()
    assert model[0].weight.grad is not None
    before = model[1].running_mean.clone()
    distributed.same_buffers(model)
    assert torch.equal(model[1].running_mean, before)


def test_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with distributed.process_group(torch.device("cpu")):
        assert not torch.distributed.is_initialized()
        check_all_functions()
    model = nn.Linear(2, 2)
    assert distributed.replicate(model, torch.device("cpu")) is model


def test_in_a_group_of_one() -> None:
    """In a process of its own: a group cannot be made twice in one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import torch\nfrom nlnet import distributed\nfrom tests.test_distributed import check_all_functions\n"
        "with distributed.process_group(torch.device('cpu')):\n"
        "    assert torch.distributed.is_initialized()\n    check_all_functions()\n"
        "    with distributed.process_group(torch.device('cpu')):\n        pass\n"
        "    assert torch.distributed.is_initialized()\n"
        "assert not torch.distributed.is_initialized()\n"
    )
    group = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = os.environ | group | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.device("auto") == distributed.device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.device("auto") == distributed.device("cuda") == torch.device("cuda", 3)
    assert distributed.device("cpu") == torch.device("cpu")
