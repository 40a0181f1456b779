"""Networks from configs and from checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from nlnet import distributed
from nlnet.config.compose import build, check, override_stored, plain
from nlnet.config.evaluation import build_decoder, build_evaluation, read_view
from nlnet.data.annotations import Label, Video, VideoList
from nlnet.data.loader import Readers
from nlnet.data.transforms import EvalViews, Normalize
from nlnet.engine.averaging import weights_of
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint
from nlnet.engine.predictions import Predictions
from nlnet.errors import CheckpointError, ConfigError, VideoError
from nlnet.ops.activation import Activation, Sigmoid, Softmax
from nlnet.weights.transfer import Transfer


def build_model(node: DictConfig, *, num_classes: int) -> tuple[nn.Module, Transfer | None]:
    """The network of a ``model`` node, initialised as its ``init`` says, and what was loaded for that."""
    arguments = {key: value for key, value in plain(node).items() if key != "init"}
    model: nn.Module = build(arguments, num_classes=num_classes)
    init = node.get("init")
    if init is None or init.get("_target_") is None:
        return model, None
    return model, build(init)(model)


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights and all that is needed to use it, from a checkpoint alone.

    Attributes:
        model: clips [B, 3, T, H, W] -> logits [B, K], in evaluation mode.
        classes: the K names.
        config: the config it was trained with.
        path, step: where the weights are from.
        multi_label: whether its scores are sigmoids, of any number of classes per video, or a softmax.

    ``views`` of a method is an option of ``data/views``, such as 10x3; by default, those that it was trained to be
    tested with. All runs on the device of the model.
    """

    model: nn.Module
    classes: tuple[str, ...]
    config: DictConfig
    path: Path
    step: int
    multi_label: bool = False

    def predict(self, video: str | Path, *, top: int = 5, views: str | None = None) -> list[tuple[str, float]]:
        """The ``top`` most likely classes of a video with their scores, best first.

        The scores of all K sum to 1, except where the model is for several labels.

        Raises:
            VideoError: it cannot be decoded.
        """
        predictions = self.score([video], views=views)
        if predictions.errors:
            raise VideoError(str(video), predictions.errors[0])
        return self.best(predictions.scores[0], top=top)

    def score(self, videos: Sequence[str | Path], *, views: str | None = None) -> Predictions:
        """Scores [videos, K]: of each view, combined as ``views`` says. What cannot be decoded is in ``errors``."""
        unknown: Label = () if self.multi_label else 0  # its kind decides what the logits mean
        listed = tuple(Video(path=str(Path(video).resolve()), label=unknown, name=str(video)) for video in videos)
        videos_of_user = VideoList(listed, self.classes, "the videos that were given")
        evaluation = build_evaluation(self._data(views), videos_of_user, device=self.device, readers=Readers())
        return evaluation(self.model)

    def best(self, scores_K: Tensor, *, top: int = 5) -> list[tuple[str, float]]:
        """Scores [K] -> the ``top`` best classes with their scores."""
        best = scores_K.topk(min(top, len(self.classes)))
        return [(self.classes[k], score) for score, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def clips(self, video: str | Path, *, views: str | None = None) -> Tensor:
        """The views of a video as the network gets them, before normalisation: uint8 [V, T, H, W, 3].

        Raises:
            VideoError: it cannot be decoded.
        """
        with build_decoder(self._data(views)).open(str(video)) as reader:
            clips = reader.read_all(self.views(views)(reader.info))
        return torch.stack([torch.from_numpy(clip) for clip in clips])

    def clip(self, video: str | Path, *, views: str | None = None, number: int | None = None) -> Tensor:
        """One of ``clips``, by its number from 0; by default the one in the middle: uint8 [T, H, W, 3].

        Raises:
            VideoError: it cannot be decoded.
            ConfigError: the protocol has fewer views.
        """
        return read_view(str(video), build_decoder(self._data(views)), self.views(views), number=number)

    def features(self, clip: Tensor, *, stage: str | None = None) -> Tensor:
        """What the network makes of clips, before the classifier: [B, C], the mean over all positions.

        Args:
            clip: uint8 [B, T, H, W, 3] as ``clips`` gives them, or numbers [B, 3, T, H, W], normalised already.
            stage: the name of a module, such as res4 or res4.nl5: its maps [B, C, T', H', W'] instead.
        """
        clip = clip.to(self.device)
        x = self.normalize(clip) if clip.dtype == torch.uint8 else clip
        with torch.no_grad():
            if stage is None:
                pooled: Tensor = self.model.features(x).mean(dim=(2, 3, 4))  # type: ignore[operator]
                return pooled
            if stage not in dict(self.model.named_modules()):
                parts = ", ".join(name for name, _ in self.model.named_children())
                raise ConfigError(f"{stage}: the network has no such part; it has {parts} and theirs")
            seen: list[Tensor] = []
            module = self.model.get_submodule(stage)
            # A copy: what follows may write into it.
            hook = module.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
            try:
                self.model(x)
            finally:
                hook.remove()
        return seen[0]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def activation(self) -> Activation:
        """What makes probabilities of the logits."""
        return Sigmoid() if self.multi_label else Softmax()

    @property
    def normalize(self) -> Normalize:
        """uint8 [B, T, H, W, 3] -> the model's input [B, 3, T, H, W], as in its training."""
        normalize: Normalize = build(self.config.data.normalize)
        return normalize

    def views(self, name: str | None = None) -> EvalViews:
        """Which frames and boxes of a video are looked at."""
        views: EvalViews = build(self._data(name).views)
        return views

    def _data(self, views: str | None) -> Any:
        return override_stored(self.config, [f"data/views={views}"] if views else []).data


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint file, or the newest valid one of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    found = CheckpointFolder(folder).newest()
    if found is None:
        runs = sorted(str(run.parent) for run in path.glob("s*/checkpoints"))
        hint = f"; did you mean {runs[0]}?" if runs else "; give a run folder such as runs/NAME/s0, or a .pt file"
        raise CheckpointError(f"{path}: no checkpoint in this folder{hint}")
    return found[0]


def load_model(path: str | Path, *, device: str = "cpu") -> TrainedModel:
    """A checkpoint file or run folder of nlnet -> the trained network, on ``device`` (auto, cpu or cuda).

    Loading never runs code: the file holds plain data, and its config may name nlnet's own classes only.

    Raises:
        CheckpointError: missing, damaged, or not one of ours.
    """
    path = find_checkpoint(path)
    state = load_checkpoint(path)
    try:
        card = state["card"]
        config, classes = OmegaConf.create(card["config"]), tuple(card["classes"])
        step, weights = int(state["step"]), weights_of(state)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of a trained network ({error} is missing)") from error
    try:
        config.data.prepare = None  # who uses a network makes no data
        named = OmegaConf.create({"model": config.model, "data": config.data})
    except (AttributeError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{path}: not a checkpoint of a trained network ({error})") from error
    check(named, trusted=False)
    config.model.init = None  # the weights are here
    model, _ = build_model(config.model, num_classes=len(classes))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the network that it describes ({error})") from error
    multi_label = bool(card.get("multi_label", False))
    return TrainedModel(model.to(distributed.device(device)).eval(), classes, config, path, step, multi_label)
