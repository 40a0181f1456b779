"""``nlnet visualize RUN_OR_CHECKPOINT VIDEO``: what non-local blocks attend to, and what speaks for a class.

For each block and query position: arrows to the keys of the highest weights across the frames (paper, figure 3), a
strip of heat maps, and a moving one; how far the block looks on average; and the class-activation maps of the head.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nlnet.cli.arguments import Parser
from nlnet.config.models import TrainedModel, load_model
from nlnet.errors import ConfigError
from nlnet.models.looking import Attention, Grid, Look, Statistics, class_activation
from nlnet.report.heat import Frames, draw_arrows, draw_heat, over_pixels, overlay, write_moving
from nlnet.report.tables import Cell, Column, Table


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.top < 1:
        raise ConfigError(f"--top {options.top}: at least 1")
    trained = load_model(options.checkpoint, device="auto")
    clip = trained.clip(options.video, views=options.views, number=options.view)
    inputs = trained.normalize(clip[None].to(trained.device))
    look = Look(trained.model, inputs)
    scores = trained.activation(look.logits.cpu())
    named = trained.best(scores, top=3)
    shown = _class(options.of_class, trained, best=named[0][0])
    home = Path(options.checkpoint) if Path(options.checkpoint).is_dir() else Path()
    files = _Files(options.out or home / "looks" / Path(options.video).stem, clip.numpy())

    blocks = [_block(name, look, options.query, files, options.top) for name in options.block or look.blocks]
    maps = class_activation(trained.model, inputs)[shown].cpu()
    title = f"what speaks for {trained.classes[shown]} ({scores[shown]:.1%}); against it in blue"
    grid = Grid((maps.shape[0], maps.shape[1], maps.shape[2]), look.clip_size)
    files.heat("class_activation", maps.numpy(), grid, title)
    data = {"video": options.video, "scores": dict(named), "blocks": [block for block, _ in blocks]}
    files.write("attention.json", (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())

    print(f"{options.video}: " + " · ".join(f"{name} {score:.1%}" for name, score in named))
    if blocks:
        print(Table(COLUMNS, [row for _, row in blocks]).to_text(), end="")
        print("in brackets: what equal weights on all keys would give")
    else:
        print("the network has no non-local blocks (model/placement): class activation only")
    print(f"{len(files.names)} files in {files.folder}: {', '.join(files.names)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="nlnet visualize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a run folder (its newest checkpoint) or a .pt file")
    parser.add_argument("video")
    parser.add_argument("--block", action="append", metavar="NAME", help="such as res4.nl5; all by default")
    parser.add_argument(
        "--query", action="append", metavar="X,Y,FRAME", help="a pixel of the clip and its frame, from 0; or strongest"
    )
    parser.add_argument("--top", type=int, default=20, help="arrows: so many of the highest weights (20)")
    parser.add_argument("--views", help="1x1, 10x3 or any other option of data/views (default: as in its training)")
    parser.add_argument("--view", type=int, metavar="N", help="which of them, from 0 (default: the middle one)")
    parser.add_argument("--class", dest="of_class", metavar="NAME", help="whose activation to show (default: the best)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: looks/VIDEO, in the run's folder")
    return parser


def _class(name: str | None, trained: TrainedModel, *, best: str) -> int:
    """The number of the class whose activation is shown."""
    if (name or best) not in trained.classes:
        some = ", ".join(trained.classes[:5]) + (" …" if len(trained.classes) > 5 else "")
        raise ConfigError(f"--class {name}: the network knows no such class; it knows {some}")
    return trained.classes.index(name or best)


def _block(
    name: str, look: Look, queries: Sequence[str] | None, files: "_Files", top: int
) -> tuple[dict[str, Any], Sequence[Cell]]:
    """Draws one block -> what attention.json says of it, and its row of the table."""
    grid = look.grid(name)
    places = {
        text: look.strongest_query(name) if text == "strongest" else grid.place(*_pixel(text))
        for text in queries or ["strongest"]
    }
    attentions = look.attention(name, list(places.values()))
    for text, attention in zip(places, attentions, strict=True):
        files.attention(f"{name}_at_{text.replace(',', '_')}" if queries else name, attention, top=top)
    statistics = look.statistics(name)
    found = [_as_data(attention, top) for attention in attentions]
    block = {"block": name, "pairwise": attentions[0].pairwise, "statistics": asdict(statistics), "queries": found}
    return block, _row(name, statistics)


COLUMNS = (
    Column("block"),
    Column("entropy (nats)"),
    Column("distance in frames"),
    Column("distance in pixels"),
    Column("on the own frame"),
)


def _row(name: str, found: Statistics) -> Sequence[Cell]:
    return (
        name,
        f"{found.entropy:.2f} ({found.uniform_entropy:.2f})",
        f"{found.frames:.1f} ({found.uniform_frames:.1f})",
        f"{found.pixels:.0f} ({found.uniform_pixels:.0f})",
        f"{found.own_frame:.0%} ({found.uniform_own_frame:.0%})",
    )


def _pixel(text: str) -> tuple[int, float, float]:
    """``x,y,frame`` -> frame, y, x."""
    try:
        x, y, frame = text.split(",")
        return int(frame), float(y), float(x)
    except ValueError:
        raise ConfigError(f"--query {text}: write x,y,frame, such as 112,80,3, or strongest") from None


def _as_data(attention: Attention, top: int) -> dict[str, Any]:
    """For attention.json: positions as frame, y, x in the clip."""

    def place(grid: Grid, t: int, row: int, column: int) -> list[float]:
        return [grid.frame(t), *grid.centre(row, column)]

    keys = attention.grid
    return {
        "query": place(Grid(keys.map, keys.clip), *attention.query),
        "keys": [{"at": place(keys, *key), "weight": weight} for key, weight in attention.strongest(top)],
    }


class _Files:
    """The files of one look."""

    def __init__(self, folder: Path, clip: Frames) -> None:
        self.folder, self.clip = folder, clip
        self.names: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def attention(self, name: str, attention: Attention, *, top: int) -> None:
        title = f"{attention.block} · {attention.pairwise}"
        arrows = draw_arrows(self.clip, attention, f"{title} · the {top} highest weights", count=top)
        self.write(f"{name}_arrows.png", arrows)
        low, high = attention.weights.min(), attention.weights.max()
        weights = f"{title} · weights {low:.3g} to {high:.3g} of the marked position"
        self.heat(f"{name}_heat", attention.weights.numpy(), attention.grid, weights, mark=attention)

    def heat(self, name: str, weights: Any, grid: Grid, title: str, *, mark: Attention | None = None) -> None:
        self.write(f"{name}.png", draw_heat(self.clip, weights, grid, title, mark=mark))
        frames = overlay(self.clip, over_pixels(weights, grid))
        for ending in ("gif", "mp4"):
            write_moving(self.folder / f"{name}.{ending}", frames)
            self.names.append(f"{name}.{ending}")

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)
        self.names.append(name)
