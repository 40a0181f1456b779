"""The commands as a user types them: train, test, predict and sweep, on a folder of one's own videos."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nlnet.cli import run
from nlnet.config import load_model
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, class_folder: Path) -> Path:
    """The run folder of a short training with a non-local block."""
    home = tmp_path_factory.mktemp("home")
    options = [*SMALL, f"data.root={class_folder}", "model/placement=small", f"runs={home}/runs", "name=first"]
    assert run("train", options) == 0
    return home / "runs" / "first" / "s0"


def test_training_leaves_a_complete_run_folder(trained: Path) -> None:
    for name in ("config.yaml", "env.json", "log.txt", "metrics.jsonl", "costs.json", "contact_sheet.png"):
        assert (trained / name).stat().st_size > 0, name
    assert json.loads((trained / "status.json").read_text())["state"] == "DONE"
    assert (trained / "classes.txt").read_text().split("\n")[:3] == ["blue sky", "grass", "red_wall"]
    results = json.loads((trained / "eval" / "1x1" / "results.json").read_text())
    assert results["num_videos"] == 6
    assert results["coverage"] == 1.0
    assert results["top1"] == 1.0, "three colours are not hard"
    page = (trained / "report.html").read_text()
    assert "blue sky" in page
    assert "data:image/png;base64" in page


def test_the_same_command_again_answers_at_once(
    trained: Path, class_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (trained / "checkpoints").iterdir()}
    options = [*SMALL, f"data.root={class_folder}", "model/placement=small", f"runs={trained.parents[1]}", "name=first"]
    assert run("train", options) == 0
    assert "done before" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (trained / "checkpoints").iterdir()}


def test_another_config_in_the_same_folder_is_refused(
    trained: Path, class_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL, f"data.root={class_folder}", f"runs={trained.parents[1]}", "name=first"]
    assert run("train", options) == 2
    error = capsys.readouterr().err
    assert "model.placement" in error
    assert "name=" in error


def test_evaluation_of_a_run_with_other_views(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test", [str(trained), "data/views=10x3", "workers=2"]) == 0
    assert "10x3 views of 6 videos: top-1 100.0%" in capsys.readouterr().out
    with np.load(trained / "eval" / "10x3" / "predictions.npz") as saved:
        assert saved["scores"].shape == (6, 3)
        np.testing.assert_allclose(saved["scores"].sum(1), 1, atol=1e-5)


def test_stored_views_are_scored_again_without_decoding(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("test", [str(trained), "data/views=slowfast_10x3", "--store-views"]) == 0
    evaluation = trained / "eval" / "slowfast_10x3"
    protocol = json.loads((evaluation / "results.json").read_text())["protocol"]
    assert protocol["placement"]["_target_"] == "nlnet.data.placement.SlowFast"

    assert run("test", [str(trained), "--from-views", "slowfast_10x3", "--out", str(tmp_path / "all")]) == 0
    with np.load(evaluation / "predictions.npz") as whole, np.load(tmp_path / "all" / "predictions.npz") as again:
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], again[name])

    chosen = ["clips=[0,3,6,9]", "crops=[1]", "ensemble=largest"]
    assert run("test", [str(trained), "--from-views", str(evaluation), *chosen]) == 0
    name = "4x1-of-slowfast_10x3-clips0.3.6.9-crops1-largest"
    assert f"{name} views of 6 videos" in capsys.readouterr().out
    with np.load(evaluation / "views.npz") as stored, np.load(trained / "eval" / name / "predictions.npz") as subset:
        logits = stored["logits"][:, [1, 10, 19, 28]]
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(subset["scores"], probabilities.max(1), rtol=1e-5)
    results = json.loads((trained / "eval" / name / "results.json").read_text())
    assert (results["clips"], results["crops"], results["ensemble"]) == ([0, 3, 6, 9], [1], "largest")
    assert results["step"] == json.loads((evaluation / "results.json").read_text())["step"]

    for wrong, message in (
        ("clips=[10]", "there is no number 10"),
        ("clips=a", "write numbers"),
        ("data.root=x", "takes clips="),
        ("ensemble=median", "has largest, mean_logit, mean_probability"),
    ):
        assert run("test", [str(trained), "--from-views", "slowfast_10x3", wrong]) == 2
        assert message in capsys.readouterr().err
    assert run("test", [str(trained), "--from-views", "10x1"]) == 2
    assert "--store-views" in capsys.readouterr().err

    # A later test that does not keep its views leaves none of other weights behind.
    assert run("test", [str(trained), "data/views=slowfast_10x3"]) == 0
    assert not (evaluation / "views.npz").exists()


def test_prediction_needs_the_checkpoint_alone(
    trained: Path, class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "mine.pt"
    shutil.copy(trained / "checkpoints" / "best.pt", checkpoint)
    video = class_folder / "grass" / "clip 3.mp4"
    assert run("predict", [str(checkpoint), str(video), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["video"] == str(video)
    assert answer["top"][0]["class"] == "grass"
    assert len(answer["top"]) == 3
    (tmp_path / "no.mp4").write_bytes(b"")
    assert run("predict", [str(checkpoint), str(video), str(tmp_path / "no.mp4")]) == 2
    output = capsys.readouterr()
    assert "grass" in output.out
    assert "no.mp4" in output.err


def test_fine_tuning_replaces_the_head_and_freezes_stages(
    trained: Path, class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = tmp_path / "two"
    for name in ("grass", "red_wall"):
        shutil.copytree(class_folder / name, two / name)
    options = [*SMALL, f"data.root={two}", "model/placement=small", f"runs={tmp_path}/runs", "name=fine"]
    options += ["init=checkpoint", f"init.path={trained}", "init.freeze=[stem,res2]", "trainer.epochs=1"]
    assert run("train", options) == 0
    said = capsys.readouterr().err
    assert "newly initialised: head" in said
    assert "left out: head" in said
    assert "frozen: stem, res2" in said
    before = load_model(trained).model.state_dict()
    after = load_model(tmp_path / "runs" / "fine" / "s0").model.state_dict()
    assert after["head.weight"].shape[0] == 2
    for name, tensor in after.items():
        if name.startswith(("stem.", "res2.")):
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(after["res4.0.a.weight"], before["res4.0.a.weight"])


def test_bad_videos_are_replaced_in_training_and_count_as_wrong_in_evaluation(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "videos"
    shutil.copytree(class_folder, root)
    bad = sorted(root.rglob("*.mp4"))[::10]  # one of each class
    bad[0].write_bytes(b"")
    bad[1].write_bytes(b"<html>404</html>" * 100)
    bad[2].write_bytes(bad[2].read_bytes()[:600])
    lists = {"train.csv": [], "val.csv": []}  # type: dict[str, list[str]]
    for label, name in enumerate(("blue sky", "grass", "red_wall")):
        for number, path in enumerate(sorted((root / name).iterdir())):
            lists["val.csv" if number >= 7 else "train.csv"].append(f"{path.relative_to(root)} {label}")
        lists["val.csv"].append(f"{name}/gone.mp4 {label}")
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines))
    options = [*SMALL, "data=lists", f"data.root={root}", f"runs={tmp_path}/runs", "name=bad"]
    assert run("train", [*options, "data.max_bad_fraction=0.2"]) == 0
    said = capsys.readouterr().err
    assert "1 of 21 training videos (4.8%) are missing or empty" in said
    assert "3 of 12 validation videos (25.0%) are missing or empty" in said
    folder = tmp_path / "runs" / "bad" / "s0"
    listed = (folder / "bad_videos.csv").read_text().splitlines()[1:]
    assert len(listed) == 3
    results = json.loads((folder / "eval" / "1x1" / "results.json").read_text())
    assert results["num_videos"] == 12
    assert results["num_scored"] == 9
    assert results["top1"] <= 0.75
    assert run("train", [*options, "name=strict", "data.max_bad_fraction=0.1"]) == 4
    assert "max_bad_fraction" in capsys.readouterr().err
    assert json.loads((tmp_path / "runs" / "strict" / "s0" / "status.json").read_text())["state"] == "FAILED"


def test_a_folder_of_bad_videos_is_refused_from_a_worker_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        for number in range(4):
            path = tmp_path / "videos" / name / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no video")
    options = [*SMALL, f"data.root={tmp_path}/videos", f"runs={tmp_path}/runs", "workers=1"]
    assert run("train", options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be decoded" in error
    assert str(tmp_path / "videos") in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data.root=/nowhere/at/all"], "/nowhere/at/all"),
        (["optim.lrr=1"], "did you mean 'optim.lr'"),
        (["trainer.batch_size=0"], "trainer.batch_size"),
        (["data.augment.crop=99"], "crop"),
        (["init=checkpoint", "init.path=nothing.pt"], "nothing.pt: no such checkpoint"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(
    small: list[str], tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", [*small, f"runs={tmp_path}/runs", *options]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
