"""A training run from its config: all its objects, its folder, and every choice that is made for the user, said."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

import nlnet
from nlnet import distributed
from nlnet.config.compose import build, check, differences, plain
from nlnet.config.evaluation import Evaluation, build_annotations, build_decoder, build_evaluation, choose_readers
from nlnet.config.models import build_model, find_checkpoint
from nlnet.config.preflight import check_data, check_device, check_files, check_run, missing_classes, short_videos
from nlnet.config.runs import digest, identity, open_folder
from nlnet.data.annotations import Annotations
from nlnet.data.clips import TrainClips
from nlnet.data.decoders import Decoder
from nlnet.data.loader import change_pixels, train_loader
from nlnet.data.mixing import NoMix, PairMixer
from nlnet.engine.averaging import weights_of
from nlnet.engine.bad_videos import BadVideos
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint
from nlnet.engine.faults import Watch
from nlnet.engine.memory import estimate
from nlnet.engine.settings import Settings
from nlnet.engine.trainer import RunFiles, TrainData, Trainer
from nlnet.errors import CheckpointError
from nlnet.loggers import RunLog
from nlnet.models.recompute import recomputed
from nlnet.status import RunStatus
from nlnet.weights.transfer import transfer


@dataclass(frozen=True)
class TrainJob:
    """Everything that ``nlnet train`` does: the trainer, and the final test with the chosen views.

    ``model`` is the network that is validated and tested: the trained one, or with ``trainer.ema`` its average.
    """

    folder: Path
    trainer: Trainer
    validation: Evaluation
    test: Evaluation
    model: nn.Module
    clips: TrainClips
    log: RunLog

    @property
    def micro_batch(self) -> int:
        """Clips that a process computes at a time."""
        settings = self.trainer.settings
        return max(1, settings.batch_size // settings.accumulate // distributed.world_size())

    def peak_memory(self) -> int:
        """The estimate of ``nlnet.engine.memory``, in bytes; before the first step."""
        view, trainer = self.clips.view, self.trainer
        return estimate(
            trainer.model,
            trainer.optimizer,
            clips=(self.micro_batch, view.frames, view.crop, view.crop),
            classes=len(self.clips.videos.classes),
            to_input=trainer.data.to_input,
            loss=trainer.settings.loss,
            precision=trainer.precision,
        )


def run_folder(config: DictConfig) -> Path:
    """RUNS/NAME/sSEED."""
    return Path(config.runs) / str(config.name) / f"s{config.seed}"


def build_train(config: DictConfig, *, status: RunStatus | None = None, watch: Watch | None = None) -> TrainJob:
    """All objects of a training run, its folder made and every choice that was made for the user said.

    Args:
        status: takes the folder; None leaves it open to others.
        watch: over the run, in a ``with`` block; None watches nothing.

    Raises:
        ConfigError, DataError, CheckpointError: before any work, naming the key, the file or the line.
    """
    check(config)
    folder = run_folder(config)
    resolved = plain(config)
    check_device(config)
    check_run(config, processes=distributed.world_size())
    device = distributed.device(config.device)
    watch = watch or Watch()
    settings: Settings = build(config.trainer)
    decoder = build_decoder(config.data)
    annotations = build_annotations(config.data)
    check_data(annotations, settings)
    missing = distributed.on_main(
        lambda: check_files(annotations, decoder, max_bad_fraction=config.data.max_bad_fraction)
    )
    distributed.on_main(lambda: open_folder(folder, resolved, differences(config)))
    before = status.claim() if status is not None else ""
    log = RunLog(folder, tensorboard=config.tensorboard)
    if before == "CUT OFF":
        log.line(f"{folder}: the last start was cut off without a word: killed, or the machine went down")
    _say_data(annotations, missing, decoder, config, log)

    torch.manual_seed(config.seed)
    model, loaded = build_model(config.model, num_classes=len(annotations.classes))
    if loaded is not None:
        log.line(f"{config.model.init.get('weights', 'model.init')}: {'; '.join(loaded.lines())}")
    _initialise_from(model, config, log)
    model.to(device).to(memory_format=torch.channels_last_3d)  # as the clips are
    model = recomputed(build(config.batch_norm)(model), settings.recompute)

    view = build(config.data.augment)
    clips = TrainClips(
        annotations.train,
        decoder=decoder,
        view=view,
        seed=config.seed,
        order=build(config.data.order),
        pixels=build(config.data.pixels),
        on_device=config.data.augment_on_device,
        repeats=config.data.repeats,
    )
    mix = _build_mix(config, clips, settings)
    readers = replace(choose_readers(config.workers, config.threads, say=log.line), patience_s=config.worker_timeout)

    def evaluation(views: str) -> Evaluation:
        fitting = max(1, settings.batch_size // settings.accumulate // distributed.world_size())  # a training batch
        return build_evaluation(
            config.data,
            annotations.val,
            views=views,
            device=device,
            readers=readers,
            clips_per_batch=fitting,
            asked_to_stop=watch.alive,
        )

    def batches(first_step: int, last_step: int) -> Any:
        return train_loader(
            clips,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            start_step=first_step,
            steps=last_step,
            readers=readers,
            pin_memory=device.type == "cuda",
        )

    validation = evaluation("validation")
    optimizer = build(config.optim)(model, batch_size=settings.batch_size)
    _say_learning_rate(optimizer, settings.batch_size, config, log)
    trainer = Trainer(
        model,
        optimizer=optimizer,
        schedule=build(config.schedule),
        settings=settings,
        data=TrainData(batches, build(config.data.normalize), clips.samples_per_epoch, augment=change_pixels, mix=mix),
        files=RunFiles(
            log=log,
            checkpoints=CheckpointFolder(
                folder / "checkpoints",
                keep=config.keep_checkpoints,
                keep_every=_steps(config.keep_every, settings, clips.samples_per_epoch),
                say=log.line,
            ),
            bad_videos=BadVideos(
                [video.name for video in annotations.train.videos],
                max_fraction=config.data.max_bad_fraction,
                folder=folder,
            ),
            card=_card(resolved, annotations),
            watch=watch,
        ),
        validate=lambda: validation(trainer.evaluated).summary(),
        seed=config.seed,
    )
    return TrainJob(folder, trainer, validation, evaluation("views"), trainer.evaluated, clips, log)


def _build_mix(config: DictConfig, clips: TrainClips, settings: Settings) -> PairMixer | None:
    """What mixes the clips of a micro-batch, if anything does.

    Raises:
        ConfigError: the micro-batches cannot be paired.
    """
    rule = build(config.data.mix)
    if isinstance(rule, NoMix):
        return None  # and nothing asks for an even number of clips
    mix = PairMixer(rule, config.seed, len(clips.videos.classes), clips.repeats)
    mix.check(settings.batch_size // (settings.accumulate * distributed.world_size()))
    return mix


def _steps(epochs: float | None, settings: Settings, samples_per_epoch: int) -> int | None:
    """Epochs -> optimiser steps, at least 1."""
    return None if epochs is None else max(1, round(epochs * samples_per_epoch / settings.batch_size))


def _card(resolved: dict[str, Any], annotations: Annotations) -> dict[str, Any]:
    """What every checkpoint says of itself, as plain data."""
    lists = [annotations.train.digest(), annotations.val.digest()]
    return {
        "nlnet": nlnet.__version__,
        "config": resolved,
        "classes": list(annotations.classes),
        "multi_label": annotations.train.multi_label,
        "data": lists,
        "identity": digest([identity(resolved), lists]),
    }


def _initialise_from(model: nn.Module, config: DictConfig, log: RunLog) -> None:
    """``init=checkpoint``: fine-tuning. The classifier starts anew when the classes are others."""
    if config.init.path is not None:
        path = find_checkpoint(config.init.path)
        result = transfer(model, weights_of(load_checkpoint(path)))
        if not result.loaded:
            raise CheckpointError(
                f"{path}: none of its tensors fits this network; choose the model it was trained with"
            )
        for name in result.left_out:
            block, is_norm, _ = name.partition(".bn.weight")
            if is_norm and f"{block}.out.weight" in result.loaded:
                raise CheckpointError(
                    f"{path}: its non-local blocks ({block}) have a batch norm behind W_z that this network lacks; "
                    "set model.non_local.output.norm=true, or start from a network without blocks"
                )
        for line in result.lines():
            log.line(f"{path}: {line}")
    if config.init.freeze:
        model.freeze(list(config.init.freeze))  # type: ignore[operator]  # that it can, check_run has seen
        log.line(f"frozen: {', '.join(config.init.freeze)}")


def _say_learning_rate(optimizer: torch.optim.Optimizer, batch_size: int, config: DictConfig, log: RunLog) -> None:
    """Says the learning rate, and how it came about where the linear rule has scaled it."""
    line = f"learning rate {optimizer.param_groups[0]['lr']:.4g} for trainer.batch_size={batch_size}"
    if reference := config.optim.get("reference_batch"):
        line += f": optim.lr={config.optim.lr} is for {reference} clips; optim.reference_batch=null takes it as it is"
    log.line(line)


def _say_data(
    annotations: Annotations, missing: Sequence[str], decoder: Decoder, config: DictConfig, log: RunLog
) -> None:
    """Says what the data are, what of them is missing and what is odd about them."""
    log.line(
        f"data: {len(annotations.train)} training and {len(annotations.val)} validation videos of "
        f"{len(annotations.classes)} classes from {annotations.train.source}"
    )
    for line in [*missing, *distributed.on_main(lambda: _warnings(annotations, decoder, config))]:
        log.line(line)


def _warnings(annotations: Annotations, decoder: Decoder, config: DictConfig) -> list[str]:
    """What is odd but no error."""
    clip = config.data.clip
    found = (
        missing_classes(annotations),
        short_videos(annotations.train, decoder, frames=clip.frames, stride=clip.stride),
    )
    return [warning for warning in found if warning]
