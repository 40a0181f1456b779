"""What only a GPU can show. Skipped without one."""

import json
from pathlib import Path

import pytest
import torch

from nlnet import ops
from nlnet.cli import run
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
