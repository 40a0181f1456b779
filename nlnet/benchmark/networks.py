"""The networks that are measured, and one step of each: ours, and the textbook's with the same weights."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlnet import distributed
from nlnet.benchmark.textbook import TextbookResNet
from nlnet.benchmark.timing import Step
from nlnet.config.compose import build, check, compose
from nlnet.config.models import build_model
from nlnet.engine.precision import Name, Precision
from nlnet.errors import ConfigError
from nlnet.models.inference import for_inference
from nlnet.models.recompute import recomputed

Whose = Literal["ours", "textbook"]
Task = Literal["train", "inference"]


@dataclass(frozen=True)
class Network:
    """A network as overrides of ``nlnet train`` describe it, without its initial weights. It can be pickled.

    Args:
        overrides: as of nlnet train.
        config_dir: a folder with the user's configs.
        classes: size of the classifier.
        frames, crop: of a clip; None for those of the config.
    """

    overrides: tuple[str, ...] = ()
    config_dir: str | None = None
    classes: int = 400
    frames: int | None = None
    crop: int | None = None

    @property
    def config(self) -> Any:
        """Composed and checked.

        Raises:
            ConfigError: as of nlnet train.
        """
        config = compose("train", ["data.root=.", "model/init=scratch", *self.overrides], config_dir=self.config_dir)
        check(config)
        config.model.init = None  # weights cost nothing
        return config

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height, width."""
        config = self.config
        crop = self.crop or int(config.data.augment.crop)
        return self.frames or int(config.data.clip.frames), crop, crop

    def model(self, device: torch.device | str) -> nn.Module:
        """On ``device``, with random weights: the same for the same overrides. ``meta`` has shapes but no numbers."""
        config = self.config
        torch.manual_seed(0)
        if str(device) == "meta":
            with torch.device("meta"):
                return build_model(config.model, num_classes=self.classes)[0]
        model, _ = build_model(config.model, num_classes=self.classes)
        return recomputed(build(config.batch_norm)(model.to(device)), config.trainer.recompute)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Of the config, with learning rate 0: all its arithmetic, and weights that stay as they are."""
        optimizer: torch.optim.Optimizer = build(self.config.optim)(model, batch_size=1)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        return optimizer


def make_step(network: Network, whose: Whose, task: Task, *, batch: int, precision: Name, device: str) -> Step:
    """All that a step needs, built; the step itself takes no argument.

    A training step is forward, cross entropy, backward and the optimiser; inference a forward pass in evaluation mode.
    Clips are random, and lie in memory as each network likes it: ours with its channels last, as the loader's do.
    """
    on = torch.device(device)
    ours = network.model(on)
    model = TextbookResNet(ours).to(on) if whose == "textbook" else ours.to(memory_format=torch.channels_last_3d)
    clips = torch.randn(batch, *network.clip, 3, device=on).permute(0, 4, 1, 2, 3)
    if whose == "textbook":
        clips = clips.contiguous()
    if task == "train":
        optimizer = network.optimizer(model)
        if whose == "textbook":
            for group in optimizer.param_groups:
                group["fused"] = None  # as PyTorch has it by itself, and public code leaves it
        return _training_step(model.train(), optimizer, clips, network.classes, Precision(precision, on))
    return _inference_step(model.eval(), clips, Precision(precision, on))


def _training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, clips: Tensor, classes: int, precision: Precision
) -> Step:
    labels = torch.arange(len(clips), device=clips.device) % classes

    def step() -> None:
        with precision.autocast():
            logits = model(clips)
        precision.backward(F.cross_entropy(logits.float(), labels))
        precision.step(optimizer, model.parameters(), clip=None)

    return step


def _inference_step(model: nn.Module, clips: Tensor, precision: Precision) -> Step:
    with precision.autocast():
        folded = for_inference(model)  # as evaluation runs it; the textbook's stays as it is

    def step() -> Tensor:
        with torch.inference_mode(), precision.autocast():
            logits: Tensor = folded(clips)
        return logits

    return step


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Which network: overrides, --config-dir, --classes, --frames, --crop."""
    parser.add_argument("overrides", nargs="*", help="as of nlnet train, such as model=i3d_r50")
    parser.add_argument("--config-dir", help="a folder with your own configs")
    parser.add_argument("--classes", type=positive, default=400, help="size of the classifier (400)")
    parser.add_argument("--frames", type=positive, help="of a clip; those of data/clip by default")
    parser.add_argument("--crop", type=positive, help="pixels; the training crop by default")


def network_of(options: argparse.Namespace) -> Network:
    """The network that the options of ``add_network_options`` name."""
    return Network(tuple(options.overrides), options.config_dir, options.classes, options.frames, options.crop)


def add_run_options(parser: argparse.ArgumentParser, *, turns: int) -> None:
    """How it is run: --batch, --precision, --device, --turns."""
    parser.add_argument("--batch", type=positive, default=1, help="clips at a time (1)")
    parser.add_argument("--precision", type=precisions, default=("fp32",), help="fp32 (default), bf16, or fp32,bf16")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--turns", type=positive, default=turns, help=f"of each thing that is compared ({turns})")


def positive(text: str) -> int:
    """An argument that is a number of things."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def precisions(text: str) -> tuple[Name, ...]:
    """``fp32,bf16`` -> the two names."""
    names = tuple(text.split(","))
    for name in names:
        if name not in ("fp32", "bf16", "fp16"):
            raise argparse.ArgumentTypeError(f"'{name}' is none of fp32, bf16, fp16")
    return names  # type: ignore[return-value]


def device_of(options: argparse.Namespace) -> torch.device:
    """The device of ``--device``.

    Raises:
        ConfigError: there is none.
    """
    device = distributed.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: PyTorch sees no GPU here")
    return device


def dtype_of(precision: Name) -> torch.dtype:
    """The number format of matrix products under a precision."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def sequence_text(values: Sequence[int]) -> str:
    """(8, 224, 224) -> 8×224×224."""
    return "×".join(map(str, values))
