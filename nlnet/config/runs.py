"""Run folders: their names, what belongs to a run's identity, and what is written at its start and end."""

import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import nlnet
from nlnet.config.compose import flat
from nlnet.distributed import world_size
from nlnet.errors import ConfigError, FolderInUse

# Keys that may differ when a run goes on in its folder: where things are and how they are shown, not what is computed.
FREE = [
    "name",
    "runs",
    "device",
    "workers",
    "threads",
    "tensorboard",
    "keep_checkpoints",
    "keep_every",
    "start_timeout",
    "step_timeout",
    "worker_timeout",
    "experiment",
    "init.path",
    "model.init.weights",
    "data.root",
    "data.annotations.root",
    "data.prepare",
    "data.views",
    "data.validation",
    "data.max_bad_fraction",
    "data.max_seconds_per_video",
    "data.decoder.index_bytes",
    "data.decoder.index_folder",
    "trainer.compile",
    "trainer.recompute",
    "trainer.log_every",
    "trainer.validate_every",
    "trainer.checkpoint_every",
    "trainer.max_nonfinite",
]


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The resolved config without its free keys, as dotted keys: what a resumed run must have in common."""
    return {
        key: value
        for key, value in flat(config).items()
        if not any(key == free or key.startswith(f"{free}.") for free in FREE)
    }


def digest(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_folder(folder: Path, config: dict[str, Any]) -> None:
    """Refuses a run folder that holds another run.

    Raises:
        FolderInUse: the folder holds another config; the differing keys are named.
    """
    path = folder / "config.yaml"
    if path.is_file() and any(folder.glob("checkpoints/*.pt")):  # a run that never got that far loses nothing
        old, new = identity(yaml.safe_load(path.read_text(encoding="utf-8"))), identity(config)
        differ = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        if differ:
            listed = ", ".join(f"{key} {old.get(key)} there, {new.get(key)} here" for key in differ[:5])
            raise FolderInUse(
                f"{folder} holds another run: {listed}{' …' if len(differ) > 5 else ''}. Give this one another name "
                "(name=…), or remove the folder"
            )


def open_folder(folder: Path, config: dict[str, Any], differences: dict[str, list[Any]]) -> None:
    """Makes the run folder, or goes on in one that holds the same run: see ``check_folder``.

    ``differences`` from the default config are kept for the report.

    Raises:
        FolderInUse: see ``check_folder``.
        ConfigError: the folder cannot be made.
    """
    check_folder(folder, config)
    path = folder / "config.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror}); runs=… names another place") from error
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    text = json.dumps(differences, indent=2, ensure_ascii=False)
    (folder / "differences.json").write_text(text + "\n", encoding="utf-8")
    (folder / "env.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")


def environment() -> dict[str, Any]:
    """Versions and devices, for the record."""
    return {
        "nlnet": nlnet.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "processes": world_size(),
        "threads": torch.get_num_threads(),
    }
