"""A training run without videos: a small network with batch norm and dropout, on clips drawn from their numbers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from nlnet.engine.bad_videos import BadVideos
from nlnet.engine.checkpoint import CheckpointFolder
from nlnet.engine.settings import Settings
from nlnet.engine.trainer import RunFiles, TrainData, Trainer
from nlnet.loggers import RunLog
from nlnet.optim.groups import sgd
from nlnet.optim.schedules import Cosine

NUM_VIDEOS = 20
CLASSES = 3


class Batch(NamedTuple):
    clips: Tensor
    labels: Tensor
    bad: list[tuple[int, str]]
    indices: Tensor = torch.arange(0)
    numbers: Tensor = torch.arange(0)


def clip_of(number: int) -> tuple[Tensor, int]:
    """The clip [T, H, W, 3] and the label of one sample: a function of its number."""
    generator = torch.Generator().manual_seed(number)
    clip = torch.randint(0, 256, (2, 4, 4, 3), generator=generator, dtype=torch.uint8)
    return clip, number % CLASSES


def batches(start: int, *, settings: Settings, steps: int) -> Iterator[Batch]:
    size = settings.batch_size // settings.accumulate
    for first in range(start * settings.batch_size, steps * settings.batch_size, size):
        clips, labels = zip(*(clip_of(number) for number in range(first, first + size)), strict=True)
        numbers = torch.arange(first, first + size)
        yield Batch(torch.stack(clips), torch.tensor(labels), [], numbers % NUM_VIDEOS, numbers)


def to_input(clips: Tensor) -> Tensor:
    return clips.permute(0, 4, 1, 2, 3).float() / 255 - 0.5


def network(*, norm: bool = True) -> nn.Module:
    torch.manual_seed(7)
    middle = [nn.BatchNorm3d(4), nn.ReLU(), nn.Dropout(0.3)] if norm else [nn.Tanh()]
    return nn.Sequential(nn.Conv3d(3, 4, (1, 3, 3)), *middle, nn.Flatten(), nn.Linear(32, CLASSES))


MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Makes a trainer in a run folder; the same name again resumes."""

    def make(name: str = "run", *, model: nn.Module | None = None, **changes: Any) -> Trainer:
        validate = changes.pop("validate", None)
        settings = Settings(**{"epochs": 3, "batch_size": 8, "log_every": 2, "checkpoint_every": 0.3, **changes})
        model = model or network()
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Trainer(
            model,
            optimizer=sgd(model, batch_size=8, lr=0.5),
            schedule=Cosine(warmup=0.2),
            settings=settings,
            data=TrainData(lambda start, stop: batches(start, settings=settings, steps=stop), to_input, NUM_VIDEOS),
            files=RunFiles(
                log=RunLog(folder, tensorboard=False),
                checkpoints=CheckpointFolder(folder / "checkpoints", keep=100),
                bad_videos=BadVideos([f"v{i}" for i in range(NUM_VIDEOS)], max_fraction=0.1, folder=folder),
                card={"identity": "x"},
            ),
            validate=validate,
            seed=3,
        )

    return make
