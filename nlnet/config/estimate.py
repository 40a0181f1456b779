"""What the runs of a sweep will cost, before they start: counted, and timed with a few steps of the network."""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nlnet import distributed
from nlnet.config.compose import build, check, compose, plain
from nlnet.config.evaluation import build_annotations
from nlnet.config.models import build_model
from nlnet.config.runs import digest
from nlnet.engine.settings import Settings
from nlnet.engine.trainer import total_steps
from nlnet.errors import DataError
from nlnet.models import cost

PROBE_S = 2.0  # of steps of each network, after the first
_LARGE = 10**9  # multiply-adds; two clips of such a network are enough to time it on a CPU


@dataclass(frozen=True)
class Estimate:
    """Of one run. ``steps`` and ``seconds`` are None where the data are not there to be counted, or nothing was timed.

    ``seconds`` is the network's time for training and tests; reading videos is not in it.
    """

    parameters: int
    multiply_adds: int
    steps: int | None
    seconds: float | None


class Estimator:
    """Estimates runs; the same network is timed once, in a process of its own, so that none keeps a GPU's memory here.

    Args:
        config_dir: a folder of the user's YAMLs.
        processes: of each run.
        threads: of each of them on the CPU.
        probe: whether to time the networks.
    """

    def __init__(
        self, *, config_dir: str | None = None, processes: int = 1, threads: int | None = None, probe: bool = True
    ) -> None:
        self.config_dir, self.processes, self.threads, self.probe = config_dir, processes, threads, probe
        self._timed: dict[str, float | None] = {}

    def __call__(self, overrides: Sequence[str]) -> Estimate:
        """The estimate of ``nlnet train OVERRIDES``.

        Raises:
            ConfigError: the overrides do not compose.
        """
        config = compose("train", overrides, config_dir=self.config_dir)
        has_root = not OmegaConf.is_missing(config.data, "root")
        if not has_root:
            config.data.root = "."
        check(config)
        settings: Settings = build(config.trainer)
        try:
            annotations = build_annotations(config.data) if has_root else None
        except DataError:
            annotations = None
        classes = len(annotations.classes) if annotations else 400
        config.model.init = None  # weights change no cost
        with torch.device("meta"):
            model, _ = build_model(config.model, num_classes=classes)
        crop = int(config.data.augment.crop)
        clip = (int(config.data.clip.frames), crop, crop)
        multiply_adds = cost.multiply_adds(model, clip)
        if annotations is None:
            return Estimate(cost.parameters(model), multiply_adds, None, None)
        steps = total_steps(settings, len(annotations.train))
        per_clip = self._time(config, settings, clip, classes, multiply_adds)
        if per_clip is None:
            return Estimate(cost.parameters(model), multiply_adds, steps, None)
        validations = settings.epochs / settings.validate_every
        clips = settings.epochs * len(annotations.train)
        # A forward pass is about a third of a step.
        clips += len(annotations.val) * (validations + build(config.data.views).num_views) / 3
        return Estimate(cost.parameters(model), multiply_adds, steps, clips * per_clip / self.processes)

    def _time(
        self, config: DictConfig, settings: Settings, clip: tuple[int, int, int], classes: int, multiply_adds: int
    ) -> float | None:
        """Seconds of training for each clip on one device."""
        if not self.probe:
            return None
        batch = max(1, settings.batch_size // settings.accumulate // self.processes)
        if distributed.device(config.device).type == "cpu" and multiply_adds > _LARGE:
            batch = min(batch, 2)
        probe = {"model": plain(config.model), "classes": classes, "clip": clip, "batch": batch}
        probe |= {"device": str(config.device), "precision": settings.precision, "threads": self.threads}
        key = digest(probe)
        if key not in self._timed:
            with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
                try:
                    self._timed[key] = pool.submit(seconds_of_a_clip, probe).result()
                except (RuntimeError, MemoryError, BrokenProcessPool):  # out of memory, here: it may fit elsewhere
                    self._timed[key] = None
        return self._timed[key]


def seconds_of_a_clip(probe: Mapping[str, Any]) -> float:
    """Trains a network on clips of noise: seconds of a step for each clip, the first step apart."""
    if probe["threads"]:
        torch.set_num_threads(probe["threads"])
    device = distributed.device(probe["device"])
    model, _ = build_model(OmegaConf.create(probe["model"]), num_classes=probe["classes"])
    model.to(device).to(memory_format=torch.channels_last_3d).train()
    clips = torch.randn(probe["batch"], 3, *probe["clip"], device=device)
    clips = clips.to(memory_format=torch.channels_last_3d)
    labels = torch.zeros(probe["batch"], dtype=torch.int64, device=device)
    kind = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[probe["precision"]]
    started, steps = 0.0, -1
    while steps < 1 or time.perf_counter() - started < PROBE_S:
        with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            loss = torch.nn.functional.cross_entropy(model(clips).float(), labels)
        torch.autograd.backward(loss)
        model.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps += 1
        if steps == 0:
            started = time.perf_counter()
    return (time.perf_counter() - started) / steps / int(probe["batch"])
