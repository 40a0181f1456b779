"""Fixtures that several rooms share."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).parents[1]
# Test processes share few cores: several threads each would only get in one another's way.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def test_videos() -> Path:
    """The folder with real clips and odd videos; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("NLNET_TEST_VIDEOS", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "real_clips" / "train.csv").is_file():
        pytest.skip(f"no test videos in {folder}; NLNET_TEST_VIDEOS names their folder")
    return folder


def write_clip(path: Path, colour: tuple[int, int, int], *, seed: int, frames: int = 10, size: int = 40) -> None:
    """A small H.264 video of one colour with noise."""
    generator = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for _ in range(frames):
            noise = generator.integers(-40, 40, (size, size, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos as a user has it: three classes told apart by their colour, ten videos each, no lists."""
    root = tmp_path_factory.mktemp("my videos")
    for label, (name, colour) in enumerate(
        [("blue sky", (60, 60, 200)), ("grass", (60, 200, 60)), ("red_wall", (200, 60, 60))]
    ):
        for number in range(10):
            write_clip(root / name / f"clip {number}.mp4", colour, seed=100 * label + number)
    return root


# What makes the shipped configs small enough for a test; the same keys a user would set.
SMALL = [
    "model=c2d_small",
    "data=folder",
    "data/clip=4x2",
    "data/views=1x1",
    "data.augment.short_side=[32,36]",
    "data.augment.crop=28",
    "data.test_short_side=32",
    "schedule=cosine",
    "optim.lr=0.4",
    "trainer.batch_size=6",
    "trainer.epochs=4",
    "trainer.log_every=2",
    "workers=0",
    "device=cpu",
    "tensorboard=false",
]


@pytest.fixture
def small(class_folder: Path) -> list[str]:
    """Overrides for a training run of seconds on ``class_folder``."""
    return [*SMALL, f"data.root={class_folder}"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network with a non-local block: random weights, as if trained on ``class_folder``."""
    from nlnet.config.compose import compose, plain
    from nlnet.config.models import build_model
    from nlnet.engine.checkpoint import save_checkpoint

    config = compose("train", [*SMALL, "model/placement=small", "data.root=videos"])
    classes = ["blue sky", "grass", "red_wall"]
    torch.manual_seed(0)
    model, _ = build_model(config.model, num_classes=len(classes))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("bn.weight", "bn.running_var", "head.weight")):
                tensor.uniform_(0.5, 1.5)  # no branch is switched off, no class is as good as another
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pt"
    card = {"config": plain(config), "classes": classes}
    save_checkpoint(path, {"step": 7, "model": model.state_dict(), "card": card})
    return path


def run_nlnet(
    *arguments: str, cwd: Path, processes: int = 1, timeout: float = 240
) -> "subprocess.CompletedProcess[str]":
    """``nlnet …`` in a process of its own, or ``torchrun --nproc-per-node=N tools/…`` in several."""
    command = [sys.executable, "-m", "nlnet", *arguments]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launch, str(REPOSITORY / "tools" / f"{arguments[0]}.py"), *arguments[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
