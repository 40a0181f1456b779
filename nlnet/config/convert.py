"""Converting: a config around the network of another project, and a checkpoint of ours as one of theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

import nlnet
from nlnet.config.compose import check, compose, plain
from nlnet.config.models import build_model, load_model
from nlnet.engine.checkpoint import save_checkpoint
from nlnet.errors import CheckpointError, ConfigError
from nlnet.models.inflate import inflate_to
from nlnet.models.non_local import NonLocalBlock
from nlnet.weights.architecture import Architecture, read_architecture
from nlnet.weights.foreign import Exported, Foreign, formats, read_foreign, with_zero_bias
from nlnet.weights.transfer import Transfer, transfer

# What the tensors decide: an override of it could only contradict them.
_READ_OFF = ("model", "model/placement", "model.placement")
_SCALE = "compat.softmax_scale"


@dataclass(frozen=True)
class Imported:
    """A network of another project as one of ours, with the account of how it came about."""

    model: nn.Module
    config: DictConfig
    classes: tuple[str, ...]
    lines: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Writes a checkpoint as a training run does: ``predict``, ``test`` and ``init=checkpoint`` take it."""
        card = {"nlnet": nlnet.__version__, "config": plain(self.config), "classes": list(self.classes)}
        save_checkpoint(path, {"card": card, "step": 0, "model": self.model.state_dict()})


def import_weights(
    source: Path, *, classes: Path | None, overrides: Sequence[str] = (), config_dir: str | None = None
) -> Imported:
    """The network in a file of another project.

    Args:
        source: the file.
        classes: a file with the names of the classes, one on each line.
        overrides: what the tensors do not say, as overrides of a training config.
        config_dir: a folder of the user's YAMLs.

    Raises:
        CheckpointError: the file cannot be read safely, or is no such network.
        ConfigError: something is still open; all of it is named at once.
    """
    foreign = read_foreign(source)
    architecture = read_architecture(foreign.tensors, source=str(source))
    settled = _settle(foreign, overrides, classes, source=source, num_classes=architecture.num_classes)
    assert classes is not None  # it is among what must be settled
    names = _read_classes(classes, architecture.num_classes)
    config = compose(
        "train",
        ["model=c2d_r50", "model/init=scratch", "data.root=.", *_network(architecture), *settled, *overrides],
        config_dir=config_dir,
    )
    config.name = source.stem
    check(config)
    model, _ = build_model(config.model, num_classes=len(names))
    own = model.state_dict()
    result = transfer(model, inflate_to(with_zero_bias(foreign.tensors, own), own))
    _require_all(result, source)
    lines = [
        f"{foreign.origin}: {architecture.line()}",
        *(f"{answer} follows from the file; the same override changes it" for answer in settled),
        *foreign.notes,
        *_grouped(foreign.left_out),
        *result.lines(),
    ]
    return Imported(model.eval(), config, names, tuple(lines))


def export_weights(path: Path, *, to_format: str) -> Exported:
    """A checkpoint or run folder of ours -> a checkpoint of another project, with what its config must say.

    Raises:
        ConfigError: there is no such format to write.
        CheckpointError: the format cannot hold this network; the message says why.
    """
    writable = {form.name: form for form in formats() if form.export is not None}
    if to_format not in writable:
        raise ConfigError(f"--to-format {to_format}: no such format to write; there are {', '.join(writable)}")
    form = writable[to_format]
    assert form.export is not None
    trained = load_model(path)
    blocks = [module for module in trained.model.modules() if isinstance(module, NonLocalBlock)]
    if axes := {block.axes for block in blocks} - {"spacetime"}:
        raise CheckpointError(f"{path}: its blocks attend over {axes.pop()} only; {to_format} has spacetime alone")
    exported = form.export(
        trained.model.state_dict(),
        subsample=any(block.subsample != "none" for block in blocks),
        groups=max((block.groups for block in blocks), default=1),
        scaled=all(getattr(block.pairwise, "scale", None) != 1.0 for block in blocks),
    )
    preset = trained.config.get("compat", {}).get("name")
    notes = [*exported.notes, *_form_of(blocks)]
    if preset not in form.presets:
        notes.append(
            f"this network is compat={preset}: {to_format} computes the same only where its strides, padding and "
            f"pooling are the same too, as with compat={' or '.join(form.presets)}"
        )
    return Exported(exported.checkpoint, notes)


def _form_of(blocks: Sequence[NonLocalBlock]) -> list[str]:
    """What the target's config must say of the non-local blocks, as no tensor does."""
    if not blocks:
        return []
    form = blocks[0].pairwise
    scale = "" if not hasattr(form, "scale") else f", softmax scale {form.scale:.4g}"
    return [f"the config there must say: {type(form).__name__}{scale}, keys pooled: {blocks[0].subsample}"]


def _settle(
    foreign: Foreign, overrides: Sequence[str], classes: Path | None, *, source: Path, num_classes: int | None
) -> list[str]:
    """The overrides that follow from the format. What the user overrides is not among them.

    Raises:
        ConfigError: an override of what the tensors decide, or open questions.
    """
    given = dict(_split(override) for override in overrides)
    if wrong := [key for key in given if key in _READ_OFF]:
        raise ConfigError(f"{wrong[0]}={given[wrong[0]]}: this is read off the tensors of {source}; leave it out")
    follows, open_questions = [], []
    for key, options in foreign.choices.items():
        if key in given or (key == _SCALE and given.get("model/non_local", "embedded_gaussian") != "embedded_gaussian"):
            continue
        if len(options) == 1:
            follows.append(f"{key}={options[0]}")
        else:
            open_questions.append(" or ".join(f"{key}={option}" for option in options))
    if classes is None:
        names = f"{num_classes} names" if num_classes else "the names of your classes"
        open_questions.append(f"--classes FILE with {names}, one on each line")
    if open_questions:
        raise ConfigError(f"{source}: the tensors of {foreign.origin} do not say; give {'; '.join(open_questions)}")
    return follows


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"'{override}': overrides are written key=value")
    return key.lstrip("+~"), value


def _network(architecture: Architecture) -> list[str]:
    """The architecture as overrides of c2d_r50."""
    channels, kernel = architecture.stem
    overrides = [
        f"model.stem.channels={channels}",
        f"model.stem.kernel={kernel}",
        f"model.inflation={architecture.inflation}",
    ]
    for stage in ("res2", "res3", "res4", "res5"):
        if stage not in architecture.channels:
            overrides.append(f"~model.stages.{stage}")
            continue
        overrides.append(f"model.stages.{stage}.channels={architecture.channels[stage]}")
        overrides.append(f"model.stages.{stage}.blocks={len(architecture.temporal_kernels[stage])}")
    for part, kernels in architecture.temporal_kernels.items():
        if max(kernels) > 1:
            overrides.append(f"++model.temporal_kernels.{part}={_listed(kernels)}")
    for stage, indices in architecture.placement.items():
        overrides.append(f"++model.placement.{architecture.depth}.{stage}={_listed(indices)}")
    if (kind := architecture.non_local) is not None:
        overrides.append(f"model.non_local.output.bias={str(kind.out_bias).lower()}")
        overrides.append(f"model.non_local.output.norm={str(kind.norm).lower()}")
    return overrides


def _listed(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _read_classes(path: Path, num_classes: int | None) -> tuple[str, ...]:
    """The names in a file, one on each line.

    Raises:
        ConfigError: it cannot be read, names a class twice, or has not as many as the classifier.
    """
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--classes {path}: cannot be read ({error})") from error
    if num_classes is not None and len(names) != num_classes:
        raise ConfigError(f"--classes {path}: {len(names)} names, but the classifier has {num_classes} classes")
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise ConfigError(f"--classes {path}: '{twice[0]}' is there twice")
    if not names:
        raise ConfigError(f"--classes {path}: no names in it")
    return names


def _require_all(result: Transfer, source: Path) -> None:
    """All of the file must have found its place, and all of the network its weights, but for a missing classifier."""
    new = [name for name in result.new if not name.startswith("head.")]
    if result.left_out or new:
        raise CheckpointError(f"{source}: does not fit a network of bottlenecks: {'; '.join(result.lines()[1:])}")


def _grouped(left_out: Mapping[str, Any]) -> list[str]:
    """Lines for what is no weight of the network: counts and the first names, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    return [
        f"left out, {why}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for why, names in reasons.items()
    ]
