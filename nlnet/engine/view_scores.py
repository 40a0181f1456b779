"""The scores of every single view of a test, on disk: any subset of clips and crops and any ensemble, without decoding.

Kept are the logits of each view after the pooling, so that its probabilities are their activation. Where a pooling
averages probabilities, as the windows of a fully-convolutional network do, they are the logits of that average. Axes: N
videos, V = clips * crops views clip by clip, K classes.
"""

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nlnet.engine.predictions import Predictions
from nlnet.errors import ConfigError, DataError
from nlnet.ops.activation import Activation, Sigmoid, Softmax

VIEWS_FILE = "views.npz"


@dataclass(frozen=True)
class ViewScores:
    """The views of one test.

    Attributes:
        predictions: with ``view_logits``, float32 [N, V, K], and labels, which videos were scored and why not the rest.
        num_clips, num_crops: V is their product.
        activation: what the logits mean.
        paths, classes: names of the videos and of the classes.
    """

    predictions: Predictions
    num_clips: int
    num_crops: int
    activation: Activation
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Writes views.npz into ``folder``: whole, or not at all."""
        predictions = self.predictions
        assert predictions.view_logits is not None
        folder.mkdir(parents=True, exist_ok=True)
        reasons = [predictions.errors.get(index, "") for index in range(len(self.paths))]
        unfinished = folder / f".{VIEWS_FILE}.tmp"
        with unfinished.open("wb") as file:
            np.savez(
                file,
                logits=predictions.view_logits.numpy(),
                labels=predictions.labels.numpy(),
                scored=predictions.scored.numpy(),
                errors=np.array(reasons, dtype=np.str_),
                paths=np.array(self.paths, dtype=np.str_),
                classes=np.array(self.classes, dtype=np.str_),
                shape=np.array([self.num_clips, self.num_crops]),
                activation=np.array(self.activation.name),
            )
        os.replace(unfinished, folder / VIEWS_FILE)

    @classmethod
    def load(cls, folder: Path) -> "ViewScores":
        """Reads views.npz of ``folder``; DataError if there is none."""
        path = folder / VIEWS_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                stored = {name: arrays[name] for name in arrays.files}
            clips, crops = map(int, stored["shape"])
            logits = torch.from_numpy(stored["logits"])
            predictions = Predictions(
                torch.zeros(len(logits), logits.shape[2]),
                torch.from_numpy(stored["labels"]),
                torch.from_numpy(stored["scored"]),
                {index: str(reason) for index, reason in enumerate(stored["errors"]) if not stored["scored"][index]},
                logits,
            )
            names = [tuple(map(str, stored[key])) for key in ("paths", "classes")]
            activation: Activation = Sigmoid() if str(stored["activation"]) == Sigmoid.name else Softmax()
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; `nlnet test RUN data/views=… --store-views` writes it") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: cannot be read ({error}); write it again with --store-views") from error
        return cls(predictions, clips, crops, activation, *names)

    def combine(
        self,
        ensemble: Callable[[Tensor, Activation], Tensor],
        *,
        clips: Sequence[int] | None = None,
        crops: Sequence[int] | None = None,
    ) -> Predictions:
        """The predictions of a test with these clips and crops only (None for all), by number from 0.

        Raises:
            ConfigError: the test has no such clip or crop, or none is left.
        """
        chosen_clips = _chosen("clips", clips, self.num_clips)
        chosen_crops = _chosen("crops", crops, self.num_crops)
        views = [clip * self.num_crops + crop for clip in chosen_clips for crop in chosen_crops]
        own = self.predictions
        assert own.view_logits is not None
        # Video by video, as the test itself: equal to the bit, and without a second copy of everything.
        scores = torch.stack([ensemble(logits_VK[views], self.activation) for logits_VK in own.view_logits])
        scores[~own.scored] = 0
        return Predictions(scores, own.labels, own.scored, own.errors)


def _chosen(key: str, numbers: Sequence[int] | None, count: int) -> list[int]:
    if numbers is None:
        return list(range(count))
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong or not numbers or len(set(numbers)) != len(numbers):
        what = f"there is no number {wrong[0]}" if wrong else "name at least one, each once"
        raise ConfigError(f"{key}={list(numbers)}: the stored test has {key} 0 to {count - 1}; {what}")
    return list(numbers)
