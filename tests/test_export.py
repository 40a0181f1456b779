"""Exported files: they compute what the network computes, for any batch, and what does not is removed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nlnet
from nlnet import export as exporting
from nlnet.cli import run
from nlnet.errors import ExportError
from nlnet.export import LIMIT, Run, Write, export, write_onnx, write_torch
from nlnet.models import pairwise
from nlnet.models.non_local import Axes, NonLocalBlock, Output, Subsample
from nlnet.models.pairwise import Pairwise

CLIP = (6, 14, 12)
FORMS = [
    value
    for name, value in vars(pairwise).items()
    if isinstance(value, type) and issubclass(value, Pairwise) and value is not Pairwise and not name.startswith("_")
]


def network(form: type[Pairwise]) -> nn.Module:
    """A small network with a block of each kind of axes, none of which is the identity."""
    kinds: list[tuple[Axes, Subsample, int]] = [("spacetime", "first", 1), ("space", "last", 2), ("time", "none", 2)]
    torch.manual_seed(0)
    blocks = [
        NonLocalBlock(
            8,
            pairwise=form,
            axes=axes,
            subsample=subsample,
            groups=groups,
            output=Output(scale_init=1.0),
            weight_std=0.4,
        )
        for axes, subsample, groups in kinds
    ]
    head = (nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv3d(3, 8, 3, stride=(1, 2, 2)), *blocks, *head).eval()


def moved_by_its_blocks(model: nn.Module, clips: Tensor) -> float:
    """How far the logits move when the blocks are switched off."""
    with torch.no_grad():
        before = model(clips)
        scales = [module.bn.weight for module in model.modules() if isinstance(module, NonLocalBlock)]
        for scale in scales:
            scale.zero_()
        moved = (model(clips) - before).abs().max()
        for scale in scales:
            scale.fill_(1.0)
    return float(moved)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("write", [write_torch, write_onnx], ids=["torch", "onnx"])
def test_every_form_and_kind_of_block_comes_through(form: type[Pairwise], write: Write, tmp_path: Path) -> None:
    if write is write_onnx:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    model = network(form)
    runs: list[Run] = []

    def writing(model: nn.Module, example: Tensor, path: Path) -> Run:
        runs.append(write(model, example, path))
        return runs[-1]

    exported = export(model, CLIP, tmp_path / "file", write=writing)
    assert exported.path.stat().st_size > 1000
    assert exported.difference <= 1e-5 * exported.largest
    clips = torch.randn(5, 3, *CLIP, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = model(clips)
        torch.testing.assert_close(runs[0](clips), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert moved_by_its_blocks(model, clips) > 0.01 * exported.largest, "nothing of the blocks was compared"


@pytest.mark.parametrize("error", [10 * LIMIT, float("nan")])
def test_a_file_that_computes_something_else_is_removed(error: float, tmp_path: Path) -> None:
    model = network(pairwise.DotProduct)

    def wrong(model: nn.Module, example: Tensor, path: Path) -> Run:
        path.write_bytes(b"file")

        def run(clips: Tensor) -> Tensor:
            logits = model(clips)
            if len(clips) > 1:
                logits.view(-1)[-1] += error * logits.abs().max()
            return logits

        return run

    with pytest.raises(ExportError, match=r"model\.x: removed: its logits differ by up to"):
        export(model, CLIP, tmp_path / "model.x", write=wrong)
    assert not (tmp_path / "model.x").exists()


def test_the_command_writes_what_another_program_needs(
    checkpoint: Path, class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", [str(checkpoint), "--to", str(tmp_path / "out"), "--format", "torch"]) == 0
    assert "logits differ from the network's by at most" in capsys.readouterr().out
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["input"]["shape"] == ["batch", 3, 4, 32, 32]
    assert list(card["files"]) == ["model.pt2"]
    # As a program without nlnet would do it, but for the decoding.
    trained = nlnet.load(checkpoint)
    video = class_folder / "red_wall" / "clip 2.mp4"
    bytes_VTHWC = trained.clips(video, views="10x1").numpy()
    mean, std = np.array(card["input"]["mean"]), np.array(card["input"]["std"])
    clips = torch.from_numpy(((bytes_VTHWC / 255 - mean) / std).astype(np.float32)).permute(0, 4, 1, 2, 3)
    logits = torch.export.load(tmp_path / "out" / "model.pt2").module()(clips)
    scores = logits.softmax(1).mean(0)
    expected = dict(trained.predict(video, views="10x1"))
    for name, score in zip(card["classes"], scores.tolist(), strict=True):
        assert score == pytest.approx(expected[name], abs=1e-5)


def test_both_formats_and_another_clip(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    assert run("export", [str(checkpoint), "--to", str(tmp_path), "--clip", "2x32x40"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx", "model.pt2"]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (clip,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (clip.name, clip.shape[1:], logits.name) == ("clip", [3, 2, 32, 40], "logits")
    assert session.run(None, {"clip": np.zeros((1, 3, 2, 32, 40), np.float32)})[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "torch,caffe"], "'caffe' is none of torch, onnx"),
        (["--format", "torch", "--clip", "8x256"], "--clip 8x256: expected frames, height and width"),
        (["--format", "onnx"], "an ONNX file needs onnx, onnxscript, onnxruntime: pip install 'nlnet[export]'"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    options: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr(exporting, "find_spec", none)
    assert run("export", [str(checkpoint), "--to", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
