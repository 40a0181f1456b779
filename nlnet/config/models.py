"""Networks from configs and from checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import nn

from nlnet.config.compose import build, check, plain
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint
from nlnet.errors import CheckpointError
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
    """

    model: nn.Module
    classes: tuple[str, ...]
    config: DictConfig
    path: Path
    step: int
    multi_label: bool = False


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
    return TrainedModel(model.eval(), classes, config, path, step, bool(card.get("multi_label", False)))
