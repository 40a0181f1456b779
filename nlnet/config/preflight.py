"""What would go wrong in a training run, found before any work: no data made, no weights, no run folder.

The network is built on PyTorch's meta device, which has shapes but no numbers, and shown clips of the shapes that it is
going to get. So combinations are checked by the code that would meet them, whatever network it is.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from nlnet import distributed
from nlnet.config.compose import build
from nlnet.config.evaluation import build_decoder
from nlnet.config.models import build_model, find_checkpoint
from nlnet.data.annotations import Annotations, VideoList, find_missing
from nlnet.data.decoders import Decoder, VideoInfo
from nlnet.data.decoders.cached import CachedDecoder
from nlnet.data.decoders.time_limit import LimitedDecoder
from nlnet.data.loader import shares
from nlnet.data.transforms import EvalViews
from nlnet.engine.precision import Precision
from nlnet.engine.settings import Settings
from nlnet.errors import CheckpointError, ConfigError, DataError, NlnetError, TooManyBadVideos, VideoError
from nlnet.ops.activation import Softmax

SOME_VIDEO = VideoInfo(num_frames=300, height=256, width=340, frames_per_second=30.0)
MOST_FRAMES = 512  # no network needs more


def check_run(config: DictConfig, *, processes: int) -> None:
    """Builds and tries all parts of a training run that need neither data nor a device.

    Args:
        config: a whole training config, its keys checked.
        processes: that train together.

    Raises:
        ConfigError, CheckpointError: with the key and the mend.
    """
    if not str(config.name).strip():
        raise ConfigError("name= is empty; give the run a name, or name=auto")
    settings: Settings = build(config.trainer)
    shares(settings.batch_size, processes=processes, accumulate=settings.accumulate)
    schedule = build(config.schedule)
    for progress in (0.0, 0.5, 1 - 1e-9):
        if not (factor := schedule(progress)) >= 0:
            raise ConfigError(f"schedule: its factor of the learning rate is {factor} at {progress:.0%} of the run")
    build(config.optim)(nn.Linear(1, 1), batch_size=settings.batch_size)
    build_decoder(config.data)
    build(config.data.normalize)
    _check_init(config)
    _check_network(config)


def check_device(config: DictConfig) -> None:
    """Whether this machine has the device that the run asks for, and precision and batch norm work on it.

    Raises:
        ConfigError: with the mend.
    """
    device = distributed.device(config.device)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or count == 0:
            raise ConfigError("device=cuda: PyTorch sees no GPU here; take device=cpu, or see what nvidia-smi says")
        if device.index is not None and device.index >= count:
            raise ConfigError(
                f"device={config.device}: process {device.index} of this machine has no GPU, there are {count}; start "
                f"--nproc-per-node={count} processes"
            )
    Precision(config.trainer.precision, device)
    for views in ("views", "validation"):
        Precision(config.data[views].precision, device, key=f"data.{views}.precision")
    build(config.batch_norm)(nn.BatchNorm3d(1).to(device))


def check_data(annotations: Annotations, settings: Settings) -> None:
    """Refuses data that this run cannot learn from.

    Raises:
        ConfigError: a loss for the other kind of labels, with the one that fits.
        DataError: one class alone, of which nothing can be learned.
    """
    train = annotations.train
    fitting = "binary_cross_entropy" if train.multi_label else "cross_entropy"
    if settings.loss.multi_label != train.multi_label:
        labels = "any number of labels" if train.multi_label else "one label"
        raise ConfigError(f"{train.source}: each video has {labels}; add trainer/loss={fitting}")
    if len(annotations.classes) == 1 and not train.multi_label:
        raise DataError(
            f"{train.source}: all videos are of the one class '{annotations.classes[0]}'; add videos of another"
        )


def check_files(annotations: Annotations, decoder: Decoder, *, max_bad_fraction: float) -> list[str]:
    """Looks whether the files of the lists are there -> a line for each list of which some are not.

    Raises:
        DataError: none of a list is there.
        TooManyBadVideos: more of the training list is missing than ``max_bad_fraction``.
    """
    lines = []
    for videos, kind in ((annotations.train, "training"), (annotations.val, "validation")):
        bad = find_missing(videos, unreadable=decoder.unreadable)
        if not bad:
            continue
        first, why = bad[0]
        share = len(bad) / len(videos)
        lines.append(
            f"{len(bad)} of {len(videos)} {kind} videos ({share:.1%}) are missing or empty, the first "
            f"{first.path} ({why})"
        )
        if len(bad) == len(videos):
            raise DataError(
                f"{videos.source}: none of the {kind} videos can be read, the first is {first.path} ({why}); check "
                "data.root, from which the paths start"
            )
        if kind == "training" and share > max_bad_fraction:
            raise TooManyBadVideos(
                f"{videos.source}: {share:.1%} of the training videos are missing or empty, more than "
                f"data.max_bad_fraction={max_bad_fraction}, the first {first.path} ({why}); mend the list, or raise it"
            )
    return lines


def short_videos(videos: VideoList, decoder: Decoder, *, frames: int, stride: int, looks: int = 64) -> str | None:
    """A warning with the share of videos that are shorter than a clip, from the headers of ``looks`` of them; or None.

    They are not refused: a clip of them starts again from the beginning.
    """
    decoder = _without_memory(decoder)
    step = max(1, len(videos) // looks)
    seen = short = 0
    for video in videos.videos[::step][:looks]:
        try:
            with decoder.open(video.path) as reader:
                seen += 1
                short += reader.info.num_frames < (frames - 1) * stride + 1
        except VideoError:
            continue  # counted where videos are read
    if not short:
        return None
    looked = "" if seen == len(videos) else f" (of {seen} looked at)"
    return (
        f"warning: {short / seen:.0%} of the training videos{looked} are shorter than a clip of {frames} frames, "
        f"{stride} apart, and repeat from their beginning; a shorter clip is data.clip.frames=… or data.clip.stride=…"
    )


def _without_memory(decoder: Decoder) -> Decoder:
    """The decoder without ``CachedDecoder``, which would decode the whole video when it is opened."""
    if isinstance(decoder, LimitedDecoder):
        return LimitedDecoder(_without_memory(decoder.decoder), decoder.seconds)
    return decoder.decoder if isinstance(decoder, CachedDecoder) else decoder


def missing_classes(annotations: Annotations) -> str | None:
    """A warning that names classes without a training video; or None."""
    shown: set[int] = set()
    for video in annotations.train.videos:
        shown.update((video.label,) if isinstance(video.label, int) else video.label)
    absent = [name for number, name in enumerate(annotations.classes) if number not in shown]
    if not absent:
        return None
    listed = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
    return (
        f"warning: {annotations.train.source}: {len(absent)} of {len(annotations.classes)} classes have no training "
        f"video ({listed}); are all videos in the list, and the labels counted from 0 without a gap?"
    )


def _check_init(config: DictConfig) -> None:
    """Whether the weights that the run starts from are there. The file itself is verified when it is loaded."""
    path = config.init.path
    if path is not None:
        if not Path(path).exists():
            raise CheckpointError(
                f"init.path={path}: no such checkpoint or run folder; train that first, or name another"
            )
        if Path(path).is_dir():
            find_checkpoint(path)
    weights = (config.model.get("init") or {}).get("weights")
    if isinstance(weights, str) and Path(weights).suffix in (".pt", ".pth", ".pkl") and not Path(weights).is_file():
        raise CheckpointError(
            f"model.init.weights={weights}: no such file; name a file, a name of torchvision such as "
            "ResNet50_Weights.IMAGENET1K_V1, or take model/init=scratch"
        )


def check_views(model: DictConfig, data: DictConfig, *, names: Sequence[str] = ("views",)) -> None:
    """Shows a network, built without numbers, the clips of a test.

    Args:
        model, data: the nodes of a config.
        names: of the views in ``data``.

    Raises:
        ConfigError: they do not fit; the message names the layer, and the next larger clip that does.
    """
    _try_views(_without_numbers(model), data, names)


def _check_network(config: DictConfig) -> None:
    """Builds the network without numbers, and shows it a clip of each shape that it is going to get."""
    model = _without_numbers(config.model)
    if config.init.freeze:
        freeze = getattr(model, "freeze", None)
        if freeze is None:
            raise ConfigError(f"init.freeze: {type(model).__name__} cannot freeze parts of itself")
        freeze(list(config.init.freeze))
    view = build(config.data.augment)
    _try_clip(model, (view.frames, view.crop, view.crop), model, key="data.augment.crop")
    _try_views(model, config.data, ("validation", "views"))


def _without_numbers(node: DictConfig) -> nn.Module:
    node = node.copy()
    node.init = None  # its weights are no part of this
    with torch.device("meta"):
        model, _ = build_model(node, num_classes=2)
    return model.eval()


def _try_views(model: nn.Module, data: DictConfig, names: Sequence[str]) -> None:
    for name in names:
        views: EvalViews = build(data[name])

        def scored(clip: Tensor, pooling: Any = views.pooling) -> Tensor:
            scores: Tensor = model(clip) if pooling is None else pooling(model, clip, Softmax())
            return scores

        for size in dict.fromkeys(each.size for each in views(SOME_VIDEO)):
            _try_clip(model, (views.frames, *size), scored, key=f"data.{name}.crops")


def _try_clip(model: nn.Module, shape: tuple[int, int, int], run: Callable[[Tensor], Any], *, key: str) -> None:
    """Runs an empty clip [1, 3, T, H, W] through the network.

    Raises:
        ConfigError: it does not fit; the message names the layer, and the next larger clip that does.
    """
    entered: list[nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda module, _: entered.append(module)) for module in model.modules()]
    error = _failure(run, shape)
    for hook in hooks:
        hook.remove()
    if error is None:
        return
    if isinstance(error, NlnetError):
        raise error
    names = {module: name for name, module in model.named_modules()}
    layer = names[entered[-1]] if entered else "its first layer"
    frames, height, width = shape
    text = f"the network cannot take clips of {frames}x{height}x{width} (frames, height, width): "
    text += f"its layer {layer or type(model).__name__} says: {' '.join(str(error).split())[:160]}; "
    for more in (frames * 2**k for k in range(1, 10) if frames * 2**k <= MOST_FRAMES):
        if _failure(run, (more, height, width)) is None:
            raise ConfigError(f"data.clip.frames={frames}: {text}{more} frames do: data.clip.frames={more}")
    for larger in (64, 112, 224, 256):
        if larger > min(height, width) and _failure(run, (frames, larger, larger)) is None:
            raise ConfigError(f"{key}: {text}{larger}x{larger} pixels do")
    raise ConfigError(f"model and data.clip: {text}change model/strides, model.stages or data/clip")


def _failure(run: Callable[[Tensor], Any], shape: tuple[int, int, int]) -> Exception | None:
    """What running a clip of this shape raises."""
    try:
        with torch.no_grad():
            run(torch.empty(1, 3, *shape, device="meta"))
    except Exception as error:  # whatever a layer says of a shape that it cannot take
        return error
    return None
