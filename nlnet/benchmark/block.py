"""One non-local block in each form, forward and backward, beside the textbook's: time and peak memory."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from nlnet.benchmark.networks import add_run_options, device_of, positive
from nlnet.benchmark.peaks import peak_memory
from nlnet.benchmark.reports import Report
from nlnet.benchmark.textbook import TextbookBlock, broadcast_concatenation
from nlnet.benchmark.timing import Ratio, Step, Timing, interleaved
from nlnet.engine.precision import Name, Precision
from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise
from nlnet.report.tables import Cell, Column, Table

FORMS: dict[str, type[Pairwise]] = {
    "gaussian": Gaussian,
    "embedded_gaussian": EmbeddedGaussian,
    "dot_product": DotProduct,
    "concatenation": Concatenation,
}
STAGES = {"res2": (256, 56), "res3": (512, 28), "res4": (1024, 14), "res5": (2048, 7)}  # channels, H = W at 224 pixels
PAIRS_LIMIT = 8 * 2**30  # bytes of the textbook's [B, 2D, N, M] tensor, above which it is not run

Whose = Literal["ours", "textbook", "broadcast"]
COLUMNS = (
    Column("form"),
    Column("at"),
    Column("precision"),
    Column("time", "ms"),
    Column("peak memory", "MiB", 0),
    Column("against"),
    Column("its time", "ms"),
    Column("its memory", "MiB", 0),
    Column("times as fast"),
    Column("times the memory"),
)


@dataclass(frozen=True)
class Place:
    """Where a block stands: the stage, frames there, pooled keys or all, clips."""

    stage: str
    frames: int
    pooled: bool
    batch: int = 1

    @property
    def positions(self) -> int:
        """N of one clip."""
        return int(self.frames * STAGES[self.stage][1] ** 2)

    @property
    def keys(self) -> int:
        """M."""
        return self.positions // 4 if self.pooled else self.positions

    def __str__(self) -> str:
        batch = f", {self.batch} clips" if self.batch > 1 else ""
        return f"{self.stage} T={self.frames}{'' if self.pooled else ' without pooling'}{batch}"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--form", choices=list(FORMS), help="one form; all four by default")
    parser.add_argument("--stage", choices=list(STAGES), default="res3", help="channels and H×W of this stage (res3)")
    parser.add_argument("--frames", type=positive, default=4, help="there (4)")
    parser.add_argument("--no-pooling", action="store_true", help="every position is a key")
    parser.add_argument("--pairs", action="store_true", help="concatenation against the [B, 2D, N, M] form")
    parser.add_argument("--alone", action="store_true", help="without the textbook's block")
    parser.add_argument("--no-memory", action="store_true", help="times only; memory takes a process for each cell")
    add_run_options(parser, turns=5)


def run(options: argparse.Namespace) -> Report:
    """One row for each form and precision."""
    place = Place(options.stage, options.frames, not options.no_pooling, options.batch)
    records = []
    for form in [options.form] if options.form else FORMS:
        against: Whose | None = None if options.alone else baseline(form, pairs=options.pairs)
        for precision in options.precision:
            records.append(
                measure(
                    form,
                    place,
                    against=against,
                    precision=precision,
                    device=device_of(options),
                    turns=options.turns,
                    memory=not options.no_memory,
                )
            )
    notes = [f"Forward and backward; medians of {options.turns} interleaved turns (smallest–largest ratio)."]
    return Report([("", Table(COLUMNS, [row(record) for record in records]))], notes, records)


def baseline(form: str, *, pairs: bool = False) -> Whose:
    """What a form is compared with: its N×M matrix; for concatenation ReLU(a_i + b_j), or ``pairs`` [B, 2D, N, M]."""
    return "broadcast" if form == "concatenation" and not pairs else "textbook"


def make_step(form: str, place: Place, whose: Whose, *, precision: Name, device: str) -> Step:
    """Forward and backward of one block, with gradients of its input and its weights."""
    on = torch.device(device)
    channels, size = STAGES[place.stage]
    torch.manual_seed(0)
    ours = NonLocalBlock(
        channels,
        pairwise=FORMS[form],
        subsample="first" if place.pooled else "none",
        output=Output(scale_init=1.0),
    )
    x = torch.randn(place.batch, place.frames, size, size, channels, device=on).permute(0, 4, 1, 2, 3)
    block: nn.Module = ours
    if whose != "ours":
        block = TextbookBlock(ours, affinity=broadcast_concatenation if whose == "broadcast" else None)
        x = x.contiguous()
    block.to(on)
    x.requires_grad_()
    gradient = torch.randn_like(x)
    autocast = Precision(precision, on).autocast

    def step() -> None:
        x.grad = None
        block.zero_grad(set_to_none=True)
        with autocast():
            z = block(x)
        z.backward(gradient.to(z.dtype))

    return step


def growth(form: str, place: Place, whose: Whose, *, precision: Name, device: torch.device) -> int:
    """Bytes that two steps take over the block and its input, in a process of their own."""
    make = partial(make_step, form, place, whose, precision=precision, device=str(device))
    return peak_memory(make, steps=2, device=device).growth


def measure(
    form: str,
    place: Place,
    *,
    against: Whose | None,
    precision: Name,
    device: torch.device,
    turns: int,
    memory: bool = True,
) -> dict[str, Any]:
    """Times and peaks of one form at one place, as plain data.

    Raises:
        ConfigError: the textbook's tensor of pairs would not fit.
    """
    pairs = place.batch * 2 * (STAGES[place.stage][0] // 2) * place.positions * place.keys * 4
    if against == "textbook" and form == "concatenation" and pairs > PAIRS_LIMIT:
        raise ConfigError(
            f"the textbook's [B, 2D, N, M] tensor at {place} has {pairs / 2**30:.0f} GiB; leave --pairs out, or take "
            "res4 with few frames"
        )
    who: list[Whose] = ["ours", *([against] if against else [])]
    make = {whose: partial(make_step, form, place, whose, precision=precision, device=str(device)) for whose in who}
    memories = {whose: growth(form, place, whose, precision=precision, device=device) for whose in who if memory}
    timings = interleaved({whose: make[whose]() for whose in who}, turns=turns, device=device)
    return {
        "form": form,
        "place": str(place),
        "positions": place.positions,
        "keys": place.keys,
        "precision": precision,
        "against": against,
        "seconds": {whose: list(timing.seconds) for whose, timing in timings.items()},
        "memory": memories,
        "ratio": list(timings[against].ratio(timings["ours"]).values) if against else None,
    }


def row(record: dict[str, Any]) -> Sequence[Cell]:
    """A record as a row of COLUMNS."""
    against = record["against"]
    names = {"textbook": "N×M form", "broadcast": "N×M ReLU(a + b)", None: None}
    if record["form"] == "concatenation":
        names["textbook"] = "[2D, N, M] form"

    def milliseconds(whose: str | None) -> float | None:
        seconds = record["seconds"].get(whose)
        return 1e3 * Timing(seconds).median if seconds else None

    def mebibytes(whose: str | None) -> float | None:
        return record["memory"][whose] / 2**20 if whose in record["memory"] else None

    memory = [mebibytes("ours"), mebibytes(against)]
    return (
        record["form"].replace("_", " "),
        record["place"],
        record["precision"],
        milliseconds("ours"),
        memory[0],
        names[against],
        milliseconds(against),
        memory[1],
        str(Ratio(record["ratio"])) if record["ratio"] else None,
        f"1/{memory[1] / memory[0]:.1f}" if memory[0] and memory[1] else None,
    )
