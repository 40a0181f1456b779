"""The composition root: a checked config in, objects out. Nothing below this reads a config key."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

import nlnet
from nlnet import distributed
from nlnet.config.compose import build, check, plain
from nlnet.config.runs import digest, identity, open_folder
from nlnet.data.annotations import Annotations, Video, VideoList, find_missing
from nlnet.data.clips import EvalClips, TrainClips
from nlnet.data.loader import eval_loader, train_loader
from nlnet.data.transforms import EvalViews
from nlnet.engine.bad_videos import BadVideos
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint
from nlnet.engine.evaluator import Predictions, evaluate, write_results
from nlnet.engine.trainer import RunFiles, Settings, TrainData, Trainer, total_steps
from nlnet.errors import CheckpointError, ConfigError, DataError, TooManyBadVideos
from nlnet.loggers import RunLog
from nlnet.weights.transfer import Transfer, transfer


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
    """

    model: nn.Module
    classes: tuple[str, ...]
    config: DictConfig
    path: Path
    step: int


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


def load_model(path: str | Path) -> TrainedModel:
    """A checkpoint file or run folder of nlnet -> the trained network.

    Loading never runs code: the file holds plain data, and its config may name nlnet's own classes only.

    Raises:
        CheckpointError: missing, damaged, or not one of ours.
    """
    path = find_checkpoint(path)
    state = load_checkpoint(path)
    try:
        card = state["card"]
        config, classes = OmegaConf.create(card["config"]), tuple(card["classes"])
        step, weights = int(state["step"]), state["model"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of a trained network ({error} is missing)") from error
    check(OmegaConf.create({"model": config.model, "data": config.data}), trusted=False)
    config.model.init = None  # the weights are here
    model, _ = build_model(config.model, num_classes=len(classes))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the network that it describes ({error})") from error
    return TrainedModel(model.eval(), classes, config, path, step)


def build_annotations(data: DictConfig) -> Annotations:
    """The training and validation lists of a ``data`` node, made first where the data set can be made."""
    if data.prepare is not None:
        distributed.on_main(lambda: build(data.prepare))
    annotations: Annotations = build(data.annotations)
    return annotations


def choose_workers(workers: int | str, *, say: Callable[[str], None]) -> int:
    """Decoding processes of each training process: as given, or for ``auto`` the cores that it has to itself."""
    if workers != "auto":
        return int(workers)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = max(1, min(16, cores // processes))
    say(f"workers {chosen}: {cores} cores for {processes} training process(es); workers=N changes it")
    return chosen


@dataclass(frozen=True)
class Evaluation:
    """Scores a model on a list of videos with one set of views."""

    videos: VideoList
    decoder: Any
    views: EvalViews
    to_input: Any
    device: torch.device
    workers: int
    clips_per_batch: int

    def __call__(self, model: nn.Module) -> Predictions:
        clips = EvalClips(self.videos, decoder=self.decoder, views=self.views)
        return evaluate(
            model,
            eval_loader(clips, workers=self.workers),
            to_input=self.to_input,
            device=self.device,
            num_videos=len(self.videos),
            num_classes=len(self.videos.classes),
            clips_per_batch=self.clips_per_batch,
        )

    def write(self, folder: Path, predictions: Predictions, *, checkpoint: str, step: int) -> str:
        """Writes the results into ``folder``, on the main process, and returns them as a line for people."""
        if distributed.is_main():
            write_results(
                folder,
                predictions,
                names=[video.name for video in self.videos.videos],
                classes=self.videos.classes,
                facts={"views": self.views.name, "checkpoint": checkpoint, "step": step},
            )
        return (
            f"{self.views.name} views of {len(self.videos)} videos: top-1 {predictions.top(1):.1%} · "
            f"top-5 {predictions.top(5):.1%} · {predictions.coverage:.1%} of them could be scored · {folder}"
        )


def build_evaluation(
    data: DictConfig,
    videos: VideoList,
    *,
    device: torch.device,
    workers: int,
    views: str = "views",
    clips_per_batch: int = 8,
) -> Evaluation:
    """The evaluation of ``videos`` with the ``views`` (or ``validation``) of a ``data`` node."""
    return Evaluation(
        videos=videos,
        decoder=build(data.decoder),
        views=build(data[views]),
        to_input=build(data.normalize),
        device=device,
        workers=workers,
        clips_per_batch=clips_per_batch,
    )


@dataclass(frozen=True)
class TrainJob:
    """Everything that ``nlnet train`` does: the trainer, and the final test with the chosen views."""

    folder: Path
    trainer: Trainer
    test: Evaluation
    model: nn.Module
    clips: TrainClips
    log: RunLog


def run_folder(config: DictConfig) -> Path:
    """RUNS/NAME/sSEED."""
    return Path(config.runs) / str(config.name) / f"s{config.seed}"


def build_train(config: DictConfig) -> TrainJob:
    """All objects of a training run, its folder made and every choice that was made for the user said.

    Raises:
        ConfigError, DataError, CheckpointError: before any work, naming the key, the file or the line.
    """
    check(config)
    folder = run_folder(config)
    resolved = plain(config)
    device = distributed.device(config.device)
    annotations = build_annotations(config.data)
    distributed.on_main(lambda: open_folder(folder, resolved))
    log = RunLog(folder, tensorboard=config.tensorboard)
    settings: Settings = build(config.trainer)
    _say_data(annotations, config, log)

    torch.manual_seed(config.seed)
    model, loaded = build_model(config.model, num_classes=len(annotations.classes))
    if loaded is not None:
        log.line(f"{config.model.init.weights}: {'; '.join(loaded.lines())}")
    _initialise_from(model, config, log)
    model.to(device).to(memory_format=torch.channels_last_3d)  # as the clips are

    decoder = build(config.data.decoder)
    view = build(config.data.augment)
    clips = TrainClips(annotations.train, decoder=decoder, view=view, seed=config.seed)
    steps = total_steps(settings, len(annotations.train))
    workers = choose_workers(config.workers, say=log.line)

    def evaluation(views: str) -> Evaluation:
        fitting = max(1, settings.batch_size // settings.accumulate // distributed.world_size())  # a training batch
        return build_evaluation(
            config.data, annotations.val, views=views, device=device, workers=workers, clips_per_batch=fitting
        )

    def batches(start_step: int) -> Any:
        return train_loader(
            clips,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            start_step=start_step,
            steps=steps,
            workers=workers,
            pin_memory=device.type == "cuda",
        )

    validation = evaluation("validation")
    optimizer = build(config.optim)(model, batch_size=settings.batch_size)
    log.line(
        f"learning rate {optimizer.param_groups[0]['lr']:.4g}: optim.lr={config.optim.lr} for "
        f"{config.optim.reference_batch} clips, at trainer.batch_size={settings.batch_size}; "
        "optim.reference_batch=null takes optim.lr as it is"
    )
    trainer = Trainer(
        model,
        optimizer=optimizer,
        schedule=build(config.schedule),
        settings=settings,
        data=TrainData(batches, build(config.data.normalize), len(annotations.train)),
        files=RunFiles(
            log=log,
            checkpoints=CheckpointFolder(folder / "checkpoints", keep=config.keep_checkpoints, say=log.line),
            bad_videos=BadVideos(
                [video.name for video in annotations.train.videos],
                max_fraction=config.data.max_bad_fraction,
                folder=folder,
            ),
            card=_card(resolved, annotations),
        ),
        validate=lambda: validation(model).summary(),
        seed=config.seed,
    )
    return TrainJob(folder, trainer, evaluation("views"), model, clips, log)


def _card(resolved: dict[str, Any], annotations: Annotations) -> dict[str, Any]:
    """What every checkpoint says of itself, as plain data."""
    lists = [annotations.train.digest(), annotations.val.digest()]
    return {
        "nlnet": nlnet.__version__,
        "config": resolved,
        "classes": list(annotations.classes),
        "data": lists,
        "identity": digest([identity(resolved), lists]),
    }


def _initialise_from(model: nn.Module, config: DictConfig, log: RunLog) -> None:
    """``init=checkpoint``: fine-tuning. The classifier starts anew when the classes are others."""
    if config.init.path is not None:
        path = find_checkpoint(config.init.path)
        result = transfer(model, load_checkpoint(path)["model"])
        if not result.loaded:
            raise CheckpointError(
                f"{path}: none of its tensors fits this network; choose the model it was trained with"
            )
        for line in result.lines():
            log.line(f"{path}: {line}")
    if config.init.freeze:
        freeze = getattr(model, "freeze", None)
        if freeze is None:
            raise ConfigError(f"init.freeze: {type(model).__name__} cannot freeze parts of itself")
        freeze(list(config.init.freeze))
        log.line(f"frozen: {', '.join(config.init.freeze)}")


def _say_data(annotations: Annotations, config: DictConfig, log: RunLog) -> None:
    """Says what the data are and what of them is missing, before any work is done on them.

    Raises:
        TooManyBadVideos: more of the training list is missing than ``data.max_bad_fraction``.
    """
    log.line(
        f"data: {len(annotations.train)} training and {len(annotations.val)} validation videos of "
        f"{len(annotations.classes)} classes from {annotations.train.source}"
    )
    missing: list[list[tuple[Video, str]]] = distributed.on_main(
        lambda: [find_missing(videos) for videos in (annotations.train, annotations.val)]
    )
    for videos, bad, kind in zip(
        (annotations.train, annotations.val), missing, ("training", "validation"), strict=True
    ):
        if bad:
            log.line(
                f"{len(bad)} of {len(videos)} {kind} videos ({len(bad) / len(videos):.1%}) are missing or empty, the "
                f"first {bad[0][0].path} ({bad[0][1]})"
            )
        if len(bad) == len(videos):
            raise DataError(f"{videos.source}: none of the {kind} videos exists; check data.root={config.data.root}")
    fraction = len(missing[0]) / len(annotations.train)
    if fraction > config.data.max_bad_fraction:
        raise TooManyBadVideos(
            f"{fraction:.1%} of the training videos are missing or empty, more than data.max_bad_fraction="
            f"{config.data.max_bad_fraction}; mend the list, or raise it"
        )


def select_validation(annotations: Annotations, classes: Sequence[str]) -> VideoList:
    """The validation list, for a model that knows ``classes``.

    Raises:
        DataError: its classes are others.
    """
    if tuple(annotations.classes) != tuple(classes):
        raise DataError(
            f"{annotations.val.source}: {len(annotations.classes)} classes ({', '.join(annotations.classes[:3])} …), "
            f"but the checkpoint knows {len(classes)} ({', '.join(list(classes)[:3])} …); the names must be the same"
        )
    return annotations.val
