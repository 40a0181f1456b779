"""What only a GPU can show. Skipped without one."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from nlnet import ops
from nlnet.benchmark.memory import compare
from nlnet.benchmark.networks import Network
from nlnet.cli import run
from nlnet.models import batch_norm
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("pairwise", [Gaussian, EmbeddedGaussian, DotProduct, Concatenation])
@pytest.mark.parametrize("channels", [64, 512, 1024])
def test_blocks_give_on_the_gpu_what_they_give_on_the_cpu(pairwise: type[Pairwise], channels: int) -> None:
    torch.manual_seed(0)
    block = NonLocalBlock(channels, pairwise=pairwise, output=Output(scale_init=1.0))
    clip = torch.randn(2, channels, 4, 14, 14) * 0.1
    expected = block(clip)
    result = block.cuda()(clip.cuda())
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_attention_makes_no_matrix_on_the_gpu() -> None:
    queries, keys, g = (torch.randn(1, n, 256, device="cuda", dtype=torch.bfloat16) for n in (12544, 3136, 3136))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ops.softmax_attention(queries, keys, g, scale=1 / 16)
    assert torch.cuda.max_memory_allocated() - before < 12544 * 3136  # bytes; the matrix alone would be twice that


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_the_gpu(small: list[str], tmp_path: Path, precision: str) -> None:
    options = [*small, "device=cuda", f"trainer.precision={precision}", "model/placement=small", f"runs={tmp_path}"]
    assert run("train", [*options, "name=gpu", "workers=2"]) == 0
    results = json.loads((tmp_path / "gpu" / "s0" / "eval" / "1x1" / "results.json").read_text())
    assert results["top1"] > 0.8


def normalise_share(rank: int, port: int, folder: str) -> None:
    """One of two processes: its half of a batch through synchronised batch norm, forward and backward."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)  # NCCL wants a GPU for each process
    torch.manual_seed(0)
    batch_NCTHW = torch.randn(6, 4, 2, 5, 5) * 2 + 1
    share = batch_NCTHW[:2] if rank == 0 else batch_NCTHW[2:]  # of different sizes, which must count by size
    model = batch_norm.synchronised(nn.Sequential(nn.BatchNorm3d(4)).cuda())
    assert isinstance(model[0], nn.SyncBatchNorm)  # type: ignore[index]
    x = share.cuda().requires_grad_()
    y = model(x)
    y.pow(3).sum().backward()
    result = {"y": y.detach().cpu(), "dx": x.grad.cpu(), **{k: v.cpu() for k, v in model.state_dict().items()}}  # type: ignore[union-attr]
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_synchronised_batch_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(normalise_share, (port, str(tmp_path)), nprocs=2)
    found: list[dict[str, Tensor]] = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.manual_seed(0)
    x = (torch.randn(6, 4, 2, 5, 5) * 2 + 1).requires_grad_()
    reference = nn.Sequential(nn.BatchNorm3d(4))
    y = reference(x)
    y.pow(3).sum().backward()
    torch.testing.assert_close(torch.cat([each["y"] for each in found]), y.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat([each["dx"] for each in found]), x.grad, rtol=1e-3, atol=1e-3)
    for name, expected in reference.state_dict().items():
        for each in found:
            torch.testing.assert_close(each[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", ["8", "16", "32"])
def test_benchmarks_of_training_steps(tmp_path: Path, batch: str) -> None:
    """Against the textbook's network under the same autocast; docs/performance.md says where the figures go."""
    path = tmp_path / "found.json"
    options = ["--task", "train", "--precision", "bf16", "--batch", batch, "--device", "cuda", "--json", str(path)]
    assert run("benchmark", ["model", "model=i3d_r50", "model/placement=five", *options]) == 0
    (record,) = json.loads(path.read_text())["records"]
    assert 0 < record["macs_per_second"] < record["matrix_rate"]
    assert len(record["ratio"]) == 5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_estimates_of_memory(precision: str) -> None:
    found = compare(
        Network(("model=c2d_r50",)), batch=8, precision=precision, device=torch.device("cuda"), measure=True
    )
    assert found["measured"] > 1e9
    assert found["estimate"] == pytest.approx(found["measured"], rel=0.15)


def test_compiled_training(small: list[str], tmp_path: Path) -> None:
    options = [*small, "device=cuda", "trainer.compile=true", "trainer.precision=bf16", f"runs={tmp_path}"]
    assert run("train", [*options, "name=compiled"]) == 0
    results = json.loads((tmp_path / "compiled" / "s0" / "eval" / "1x1" / "results.json").read_text())
    assert results["top1"] > 0.8
