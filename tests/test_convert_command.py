"""``nlnet convert`` from the command line: what it prints, what it writes, and its errors."""

import json
from pathlib import Path

import pytest
import torch

from nlnet.cli import main
from nlnet.engine.checkpoint import load_checkpoint
from nlnet.models.resnet import VideoResNet
from tests.config.converting import NL, write_caffe2, write_torch
from tests.weights import restated
from tests.weights.restated import Plan, random_state


@pytest.fixture
def classes(tmp_path: Path) -> str:
    (tmp_path / "classes.txt").write_text("".join(f"class {number}\n" for number in range(7)))
    return str(tmp_path / "classes.txt")


def test_there_predict_and_back(
    classes: str, class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_caffe2(random_state(restated.CAFFE2, Plan(**NL)), tmp_path / "i3d_nl.pkl")
    ours, theirs = str(tmp_path / "ours.pt"), str(tmp_path / "theirs.pyth")
    assert main(["convert", str(source), "--to", ours, "--classes", classes, "compat=authors"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        "Caffe2: depth 47, temporal kernels, inflated 3x1x1, non-local blocks behind res3 [1], res4 [0, 10], 7 classes"
    )
    assert "model/non_local=embedded_gaussian follows from the file; the same override changes it" in printed
    assert any("CC-BY-NC 4.0" in line for line in printed)
    assert "left out, of the solver: conv1_w_momentum" in printed
    assert any(line.startswith("loaded ") for line in printed)
    assert printed[-1] == f"written: {ours}"

    clip = str(next((class_folder / "grass").iterdir()))
    assert main(["predict", ours, clip, "--views", "1x1", "--top", "2", "--json"]) == 0
    (best, second) = json.loads(capsys.readouterr().out)["top"]
    assert best["class"].startswith("class ")
    assert best["score"] >= second["score"]

    assert main(["convert", ours, "--to-format", "slowfast", "--to", theirs]) == 0
    printed = capsys.readouterr().out
    assert "EmbeddedGaussian, softmax scale" in printed
    assert "compat=authors" in printed
    again = str(tmp_path / "again.pt")
    answers = ["--classes", classes, "model/non_local=embedded_gaussian"]
    assert main(["convert", theirs, "--to", again, *answers]) == 0
    first, second = load_checkpoint(Path(ours))["model"], load_checkpoint(Path(again))["model"]
    assert set(first) == set(second)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items() if "num_batches" not in name)


def test_a_converted_checkpoint_starts_a_training(
    classes: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nlnet.config import build_train, compose

    monkeypatch.chdir(tmp_path)
    state = random_state(restated.HUB, Plan())
    source = write_torch("model_state")(state, tmp_path / "c2d.pyth")
    assert main(["convert", str(source), "--to", "c2d.pt", "--classes", classes]) == 0
    # The widths of the restated network are those of no config: the stem of a small one fits.
    start = ["init=checkpoint", "init.path=c2d.pt", "model.stem.channels=4", "model.stem.kernel=7"]
    job = build_train(compose("train", [*small, *start, "name=fine"]))
    assert isinstance(job.model, VideoResNet)
    torch.testing.assert_close(job.model.stem.conv.weight.detach(), state["blocks.0.conv.weight"], rtol=0, atol=0)
    assert "c2d.pt: loaded" in (job.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pkl", "--to", "x.pt"], "missing.pkl: no such file"),
        (["model.pyth", "--to", "x.pt"], "model.pyth: the tensors of pytorchvideo do not say; give --classes FILE"),
        (["model.pyth", "--to", "no/folder/x.pt"], "--to no/folder/x.pt: must be a file in a folder that exists"),
        (["model.pyth", "--to", "model.pyth"], "--to model.pyth: this is the source"),
        (["model.pyth", "--to", "x", "--to-format", "slowfast"], "model.pyth: not a checkpoint of nlnet"),
        (["model.pyth", "--to", "x", "--to-format", "slowfast", "compat=paper"], "--to-format takes no overrides"),
        (["model.pyth", "--to", "x", "--to-format", "onnx"], "--to-format onnx: no such format to write"),
        (["model.pyth", "--to", "x", "--classes", "classes.txt", "compat=nonsense"], "compat=nonsense: no such option"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    classes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_torch("model_state")(random_state(restated.HUB, Plan()), tmp_path / "model.pyth")
    assert main(["convert", *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert message in printed
    assert not (tmp_path / "x.pt").exists()
