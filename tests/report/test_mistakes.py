"""Pictures of the worst mistakes: which videos, what is drawn, and that a lost video or file costs its picture only."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nlnet.data.transforms import Normalize
from nlnet.errors import VideoError
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.resnet import Stage, Stem, VideoResNet
from nlnet.report.mistakes import FRAMES, draw_mistakes, worst_mistakes
from nlnet.report.page import write_run_report
from nlnet.report.run_folder import read_predictions

NORMALIZE = Normalize([0.45] * 3, [0.225] * 3)


def network(placement: dict[int, dict[str, list[int]]]) -> VideoResNet:
    torch.manual_seed(0)
    stem = Stem(8, 3, pool_kernel=(1, 1, 1), pool_stride=(1, 1, 1))
    return VideoResNet(
        {"res2": Stage(16, 1, 1)}, num_classes=3, stem=stem, non_local=NonLocalBlock, placement=placement
    )


def write_predictions(folder: Path, labels: list[int], scores: list[list[float]]) -> None:
    folder.mkdir(parents=True)
    np.savez(
        folder / "predictions.npz",
        scores=np.array(scores, dtype=np.float32), labels=np.array(labels), scored=np.array([True] * len(labels)),
        paths=np.array([f"{number}.mp4" for number in range(len(labels))]),
    )  # fmt: skip


def clip(number: int) -> Tensor:
    if number == 2:
        raise VideoError("2.mp4", "gone since")
    return torch.full((12, 40, 50, 3), 20 * number, dtype=torch.uint8)


def test_pictures_of_the_surest_mistakes(tmp_path: Path) -> None:
    folder = tmp_path / "eval" / "1x1"
    scores = [[0.6, 0.4, 0], [0.9, 0.1, 0], [0, 0.8, 0.2], [1, 0, 0], [0.5, 0.2, 0.3]]
    write_predictions(folder, [1, 1, 0, 0, 2], scores)
    predictions = read_predictions(folder)
    assert predictions is not None
    assert worst_mistakes(predictions, limit=10) == [1, 2, 0, 4]
    assert worst_mistakes(predictions, limit=1) == [1]
    (folder / "mistakes").mkdir()
    (folder / "mistakes" / "99.png").write_bytes(b"of an earlier test")
    for placement in ({5: {"res2": [0]}}, {}):  # attention, or class activation
        written = draw_mistakes(folder, network(placement), read=clip, to_input=NORMALIZE, device=torch.device("cpu"))
        assert [path.name for path in written] == ["1.png", "0.png", "4.png"]
        assert sorted(path.name for path in (folder / "mistakes").iterdir()) == ["0.png", "1.png", "4.png"]
        picture = np.asarray(Image.open(io.BytesIO(written[0].read_bytes())).convert("RGB"))
        height, width = picture.shape[:2]
        assert width / height == FRAMES * 50 / (2 * 40)
        assert (picture[: height // 2] == 20).all()  # the frames as they are
        assert (picture[height // 2 :] != 20).any()


def test_the_report_shows_them(make_run) -> None:
    run = make_run("a/s0").complete()
    draw_mistakes(
        run.path / "eval" / "10x3", network({}), read=lambda number: torch.zeros(2, 8, 8, 3, dtype=torch.uint8),
        to_input=NORMALIZE, device=torch.device("cpu"),
    )  # fmt: skip
    (picture,) = (run.path / "eval/10x3/mistakes").iterdir()
    caption = "sure mistake&lt;/i&gt;.mp4: run &amp; jump, taken for price $5$ | pay (0.90)"
    assert f"<figcaption>run/&lt;i&gt;{caption}</figcaption>" in write_run_report(run.path).read_text()
    picture.write_bytes(picture.read_bytes()[:50])
    text = write_run_report(run.path).read_text()
    assert caption not in text
    assert "Worst mistakes" in text


def test_the_folder_of_one_test_has_a_report(make_run) -> None:
    run = make_run("a/s0").complete()
    (run.path / "eval" / "10x3").rename(run.path.parent / "alone")
    text = write_run_report(run.path.parent / "alone").read_text()
    for words in ("Views per video: 10x3", "75.0%", "Worst mistakes", "&lt;b&gt;walk&lt;/b&gt;"):
        assert words in text, words


def test_a_report_says_what_was_chosen(make_run) -> None:
    run = make_run("a/s0").complete()
    run.json("differences.json", {"optim.lr": [0.01, 0.4], "model.<b>": [None, [1, 2]], "torn": 3})
    text = write_run_report(run.path).read_text()
    assert "Differences from the default config (2 keys)" in text
    assert "model.&lt;b&gt;" in text
