"""``nlnet export RUN_OR_CHECKPOINT --to FOLDER``: the network as torch.export and ONNX files, checked against it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nlnet
from nlnet.cli.arguments import Parser
from nlnet.config.compose import plain
from nlnet.config.models import TrainedModel, load_model
from nlnet.errors import ConfigError
from nlnet.export import FORMATS, Exported, export, need_onnx


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet export", description=__doc__)
    parser.add_argument("checkpoint", help="a run folder (its newest checkpoint) or a .pt file")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--format", default=",".join(FORMATS), help="torch, onnx or both (default: %(default)s)")
    parser.add_argument("--clip", metavar="TxHxW", help="frames, height and width (default: those of its test views)")
    options = parser.parse_args(arguments)
    formats = options.format.split(",")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"--format {options.format}: '{name}' is none of {', '.join(FORMATS)}")
    if "onnx" in formats:
        need_onnx()
    trained = load_model(options.checkpoint)
    clip = _clip(options.clip, trained)
    options.to.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        file, write = FORMATS[name]
        written.append(export(trained.model, clip, options.to / file, write=write))
        print(written[-1])
    card = options.to / "model.json"
    card.write_text(json.dumps(_card(trained, clip, written), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{card}: classes, clip and normalisation")
    return 0


def _clip(given: str | None, trained: TrainedModel) -> tuple[int, int, int]:
    """Frames, height and width of a clip."""
    if given is None:
        views = trained.views()
        crop, *_ = views.crops(*views.crops.scaled(480, 640))  # whole frames are of any size: those of 4:3
        return views.frames, crop.box[2], crop.box[3]
    sizes = given.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ConfigError(f"--clip {given}: expected frames, height and width, such as 8x256x256")
    frames, height, width = map(int, sizes)
    return frames, height, width


def _card(trained: TrainedModel, clip: Sequence[int], written: Sequence[Exported]) -> dict[str, Any]:
    """What another program must know to use the files."""
    normalize = trained.normalize
    return {
        "nlnet": nlnet.__version__,
        "checkpoint": trained.path.name,
        "step": trained.step,
        "input": {
            "name": "clip",
            "type": "float32",
            "shape": ["batch", 3, *clip],
            "axes": "batch, channel (red, green, blue), frame, row, column",
            "normalisation": "(byte / 255 - mean) / std",
            "mean": normalize.mean,
            "std": normalize.std,
        },
        "views": plain(trained.config.data.views),
        "output": {
            "name": "logits",
            "shape": ["batch", len(trained.classes)],
            "scores": f"{'sigmoid' if trained.multi_label else 'softmax'} of each view, then what views.ensemble says; "
            "views.pooling is not in the files",
        },
        "classes": trained.classes,
        "files": {
            each.path.name: {"largest_difference": each.difference, "largest_logit": each.largest} for each in written
        },
        "model": plain(trained.config.model),
    }
