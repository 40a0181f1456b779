"""Tables of numbers, written as Markdown, CSV, terminal text or HTML; and the comparison table of several runs.

Cells keep their numbers: only the writers round them. In CSV a mean over seeds becomes two columns, so that the
file can be read back as numbers.
"""

import csv
import html
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nlnet.report.seeds import Spread, SweepRow, summarise_rows

ABSENT = "–"


Cell = str | int | float | Spread | None


def format_number(value: float, *, decimals: int | None = None, signed: bool = False) -> str:
    """35.3 -> '35.3'. Without ``decimals``, three significant digits and never an exponent: 0.0234, 1.75, 1234."""
    if not math.isfinite(value):
        return ABSENT
    if isinstance(value, int) and decimals is None:
        return f"{value:+d}" if signed else str(value)
    if decimals is None:
        decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    # Rounding may leave a minus before nothing but zeros: a difference of -0.04 is 0.0, not -0.0.
    return text.replace("-", "+" if signed else "") if not text.strip("+-0.") else text


@dataclass(frozen=True)
class Column:
    """Heading, unit and rounding of a column; ``decimals`` None means three significant digits."""

    title: str
    unit: str = ""
    decimals: int | None = None
    signed: bool = False

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def show(self, cell: Cell) -> str:
        """A cell as people read it: '57.1 ± 0.3', '–' for None."""
        if cell is None:
            return ABSENT
        if isinstance(cell, str):
            return cell
        mean = cell.mean if isinstance(cell, Spread) else cell
        text = format_number(mean, decimals=self.decimals, signed=self.signed)
        if isinstance(cell, Spread) and cell.deviation is not None:
            text += f" ± {format_number(cell.deviation, decimals=self.decimals)}"
        return text


@dataclass(frozen=True)
class Table:
    """Columns (a plain string is a heading without unit) and rows of cells; ``bold`` holds (row, column) positions."""

    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Cell]]
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {index} has {len(row)} cells for {len(self.columns)} columns")

    @property
    def _columns(self) -> list[Column]:
        return [Column(column) if isinstance(column, str) else column for column in self.columns]

    def _shown(self) -> list[list[str]]:
        return [[column.show(cell) for column, cell in zip(self._columns, row, strict=True)] for row in self.rows]

    def _numeric(self) -> list[bool]:
        """Whether a column is set flush right: it has numbers and no text."""
        columns = [[row[index] for row in self.rows if row[index] is not None] for index in range(len(self.columns))]
        return [bool(cells) and not any(isinstance(cell, str) for cell in cells) for cells in columns]

    def to_markdown(self) -> str:
        """A pipe table; bold cells in ``**``."""
        lines = [[_escape_markdown(column.heading) for column in self._columns]]
        lines.append(["---:" if numeric else "---" for numeric in self._numeric()])
        for row_index, row in enumerate(self._shown()):
            cells = [_escape_markdown(cell) for cell in row]
            lines.append([f"**{c}**" if (row_index, index) in self.bold else c for index, c in enumerate(cells)])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_csv(self) -> str:
        """Full numbers, empty for None. A column with deviations is followed by one '<title> std' column of them."""
        deviates = [
            any(isinstance(row[index], Spread) and row[index].deviation is not None for row in self.rows)  # type: ignore[union-attr]
            for index in range(len(self.columns))
        ]
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        headings: list[str] = []
        for column, deviation in zip(self._columns, deviates, strict=True):
            std = Column(f"{column.title} std", column.unit).heading
            headings += [column.heading, std] if deviation else [column.heading]
        writer.writerow(headings)
        for row in self.rows:
            line: list[str] = []
            for cell, deviation in zip(row, deviates, strict=True):
                mean, std_value = (cell.mean, cell.deviation) if isinstance(cell, Spread) else (cell, None)
                line += [_plain(mean), _plain(std_value)] if deviation else [_plain(mean)]
            writer.writerow(line)
        return output.getvalue()

    def to_text(self) -> str:
        """Aligned for a terminal: numbers flush right, a rule under the headings."""
        headings = [column.heading for column in self._columns]
        lines = [[_one_line(cell) for cell in row] for row in [headings, *self._shown()]]
        widths = [max(_terminal_width(line[index]) for line in lines) for index in range(len(headings))]
        numeric = self._numeric()

        def aligned(line: list[str]) -> str:
            cells = []
            for cell, width, right in zip(line, widths, numeric, strict=True):
                padding = " " * (width - _terminal_width(cell))
                cells.append(padding + cell if right else cell + padding)
            return "  ".join(cells).rstrip()

        rule = "  ".join("-" * width for width in widths)
        return "\n".join([aligned(lines[0]), rule, *(aligned(line) for line in lines[1:])]) + "\n"

    def to_html(self, *, links: Mapping[tuple[int, int], str] | None = None) -> str:
        """A <table>, everything escaped; ``links`` gives the address of the cells at (row, column)."""
        links = links or {}
        classes = [' class="number"' if numeric else "" for numeric in self._numeric()]
        head = "".join(
            f'<th scope="col"{kind}>{html.escape(column.heading)}</th>'
            for column, kind in zip(self._columns, classes, strict=True)
        )
        body = []
        for row_index, row in enumerate(self._shown()):
            cells = []
            for index, cell in enumerate(row):
                text = html.escape(cell)
                if (address := links.get((row_index, index))) is not None:
                    text = f'<a href="{html.escape(address)}">{text}</a>'
                if (row_index, index) in self.bold:
                    text = f"<b>{text}</b>"
                cells.append(f"<td{classes[index]}>{text}</td>")
            body.append(f"<tr>{''.join(cells)}</tr>\n")
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>\n"


def _one_line(text: str) -> str:
    """White space becomes single blanks; what would move a terminal's cursor becomes a replacement mark."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*`<\[\]])", r"\\\1", _one_line(text))


def _plain(cell: Cell) -> str:
    if isinstance(cell, float):
        # Ten digits: enough for any number here, and 0.571 * 100 reads 57.1.
        return format(cell, ".10g") if math.isfinite(cell) else ""
    return "" if cell is None else str(cell)


def _terminal_width(text: str) -> int:
    """Columns that a terminal gives the text: two for wide (Chinese, Japanese, Korean) characters."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def summarise_runs(rows: Sequence[SweepRow]) -> Table:
    """The comparison table of a sweep: one row per entry, mean and deviation over its seeds, best top-1 in bold.

    Missing, running, failed and half-written runs are said in the column 'seeds' and left out of the means. Top-5 is
    left out when no run has more than five classes; 'views' and 'coverage' come in where the runs differ or fall
    short; the published columns where a row has them.
    """
    summaries = summarise_rows(rows)
    top1 = [summary.percent("top1") for summary in summaries]
    class_counts = [count for summary in summaries for run in summary.runs if (count := run.num_classes())]
    coverage = [summary.percent("coverage") for summary in summaries]
    baseline = top1[0] if top1 else None
    difference: list[Cell] = [
        mean.mean - baseline.mean if index and mean and baseline else None for index, mean in enumerate(top1)
    ]
    columns: list[tuple[Column, Sequence[Cell]]] = [
        (Column("name"), [summary.name for summary in summaries]),
        (Column("top-1", "%", 1), top1),
        (Column("top-5", "%", 1), [summary.percent("top5") for summary in summaries]),
        (Column("Δ top-1", "points", 1, signed=True), difference),
        (Column("params", "M"), [summary.cost("params", per=1e6) for summary in summaries]),
        (Column("MACs", "G"), [summary.cost("macs", per=1e9) for summary in summaries]),
        (Column("published top-1", "%", 1), [summary.published[0] for summary in summaries]),
        (Column("published top-5", "%", 1), [summary.published[1] for summary in summaries]),
        (Column("views"), [summary.views or None for summary in summaries]),
        (Column("coverage", "%", 1), coverage),
        (Column("seeds"), [summary.seeds for summary in summaries]),
    ]
    dropped = {title for title, cells in ((c.title, cells) for c, cells in columns) if _empty(title, cells)}
    if class_counts and max(class_counts) <= 5:
        dropped |= {"top-5", "published top-5"}
    if len({summary.views for summary in summaries if summary.results}) <= 1:
        dropped.add("views")
    if all(share is None or share.mean == 100 for share in coverage):
        dropped.add("coverage")
    kept = [(column, cells) for column, cells in columns if column.title not in dropped]
    best = max((mean.mean for mean in top1 if mean), default=0.0)
    competing = sum(mean is not None for mean in top1) > 1
    bold = frozenset((index, 1) for index, mean in enumerate(top1) if competing and mean and mean.mean == best)
    return Table(
        columns=[column for column, _ in kept],
        rows=[[cells[index] for _, cells in kept] for index in range(len(summaries))],
        bold=bold,
    )


def _empty(title: str, cells: Sequence[Cell]) -> bool:
    return title.startswith("published") and all(cell is None for cell in cells)
