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

from nlnet.report.comparison import compare
from nlnet.report.seeds import Range, RowSummary, Spread, SweepRow, summarise_rows

ABSENT = "–"


Cell = str | int | float | Spread | Range | None


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
    least: float = 0.0  # what is smaller is shown as '<0.001'

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def show(self, cell: Cell) -> str:
        """A cell as people read it: '57.1 ± 0.3', '–' for None."""
        if cell is None:
            return ABSENT
        if isinstance(cell, str):
            return cell
        if isinstance(cell, Range):
            return " to ".join(
                format_number(end, decimals=self.decimals, signed=self.signed) for end in (cell.low, cell.high)
            )
        mean = cell.mean if isinstance(cell, Spread) else cell
        if 0 <= mean < self.least:
            return f"<{self.least:g}"
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
        """Full numbers, empty for None.

        A column with deviations is followed by one '<title> std' of them, a column of ranges is one '<title> low' and
        one '<title> high'.
        """
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        parts = [_csv_column(column, [row[index] for row in self.rows]) for index, column in enumerate(self._columns)]
        writer.writerow(heading for column in parts for heading, _ in column)
        for index in range(len(self.rows)):
            writer.writerow(_plain(cells[index]) for column in parts for _, cells in column)
        return output.getvalue()

    def to_latex(self) -> str:
        """A tabular with the rules of the package booktabs, everything escaped; bold cells in \\textbf."""
        alignment = "".join("r" if numeric else "l" for numeric in self._numeric())
        lines = [" & ".join(_escape_latex(column.heading) for column in self._columns) + r" \\", r"\midrule"]
        for row_index, row in enumerate(self._shown()):
            cells = [_escape_latex(cell) for cell in row]
            marked = [rf"\textbf{{{c}}}" if (row_index, index) in self.bold else c for index, c in enumerate(cells)]
            lines.append(" & ".join(marked) + r" \\")
        body = "\n".join(lines)
        return f"\\begin{{tabular}}{{{alignment}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"

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


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"±": r"$\pm$", "Δ": r"$\Delta$", "×": r"$\times$", "–": "--", "<": "$<$", ">": "$>$"}
    return "".join(special.get(character, character) for character in _one_line(text))


def _csv_column(column: Column, cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """A column as those of a CSV file: (heading, cells) of each."""

    def part(name: str) -> str:
        return Column(f"{column.title} {name}", column.unit).heading

    if any(isinstance(cell, Range) for cell in cells):
        ends = ("low", "high")
        return [(part(end), [getattr(c, end) if isinstance(c, Range) else None for c in cells]) for end in ends]
    means: list[Cell] = [cell.mean if isinstance(cell, Spread) else cell for cell in cells]
    deviations: list[Cell] = [cell.deviation if isinstance(cell, Spread) else None for cell in cells]
    if all(deviation is None for deviation in deviations):
        return [(column.heading, means)]
    return [(column.heading, means), (part("std"), deviations)]


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
    """The comparison table of a sweep: one row per entry, mean and deviation over its seeds, best score in bold.

    Missing, running, failed and half-written runs are said in the column 'seeds' and left out of the means. A column in
    which no row has anything is left out, top-5 when no run has more than five classes; 'views' and 'coverage' come in
    where the runs differ or fall short. Differences are to the first row, see ``nlnet.report.comparison``.
    """
    summaries = summarise_rows(rows)
    scores = [summary.score() for summary in summaries]
    score = "mAP" if any(summary.several_labels for summary in summaries) else "top-1"
    columns = [*_changed(summaries), *_scores(summaries, scores, score), *_costs(summaries)]
    columns += [
        (Column(f"published {score}", "%", 1), [summary.published[0] for summary in summaries]),
        (Column("published top-5", "%", 1), [summary.published[1] for summary in summaries]),
        (Column("published params", "× first"), [summary.published_cost[0] for summary in summaries]),
        (Column("published MACs", "× first"), [summary.published_cost[1] for summary in summaries]),
        *_remarks(summaries),
    ]
    class_counts = [count for summary in summaries for run in summary.runs if (count := run.num_classes())]
    few_classes = class_counts and max(class_counts) <= 5
    always = ("name", score, "params", "MACs", "seeds", f"Δ {score}")
    kept = [
        (column, cells)
        for column, cells in columns
        if (column.title in always or any(cell is not None for cell in cells))
        and not (few_classes and column.title in ("top-5", "published top-5"))
    ]
    best = max((mean.mean for mean in scores if mean), default=0.0)
    competing = sum(mean is not None for mean in scores) > 1
    place = [column.title for column, _ in kept].index(score)
    bold = frozenset((index, place) for index, mean in enumerate(scores) if competing and mean and mean.mean == best)
    return Table(
        columns=[column for column, _ in kept],
        rows=[[cells[index] for _, cells in kept] for index in range(len(summaries))],
        bold=bold,
    )


_Columns = list[tuple[Column, Sequence[Cell]]]


def _changed(summaries: Sequence[RowSummary]) -> _Columns:
    """The name, and each key of which the rows have more than one value."""
    columns: _Columns = [(Column("name"), [summary.name for summary in summaries])]
    for key in dict.fromkeys(key for summary in summaries for key in summary.changed):
        values = [summary.changed.get(key) for summary in summaries]
        if len(set(values)) > 1:
            columns.append((Column(key), values))
    return columns


def _scores(summaries: Sequence[RowSummary], scores: Sequence[Spread | None], score: str) -> _Columns:
    """What the rows reached, and how far from the first row that is."""
    compared = [compare(summary, summaries[0]) if index else None for index, summary in enumerate(summaries)]
    baseline = scores[0] if scores else None
    return [
        (Column(score, "%", 1), scores),
        (Column("top-5", "%", 1), [summary.percent("top5") for summary in summaries]),
        (
            Column(f"Δ {score}", "points", 1, signed=True),
            [mean.mean - baseline.mean if index and mean and baseline else None for index, mean in enumerate(scores)],
        ),
        (Column("95% interval", "points", 1, signed=True), [c.interval if c else None for c in compared]),
        (Column("McNemar p", decimals=3, least=0.001), [c.p if c else None for c in compared]),
    ]


def _costs(summaries: Sequence[RowSummary]) -> _Columns:
    memory = [summary.peak_memory() for summary in summaries]
    return [
        (Column("params", "M"), [summary.cost("params", per=1e6) for summary in summaries]),
        (Column("MACs", "G"), [summary.cost("macs", per=1e9) for summary in summaries]),
        (Column("training", "clips/s"), [speed.mean if (speed := s.speed()) else None for s in summaries]),
        (Column("peak memory", "MiB", 0), [peak / 2**20 if peak else None for peak in memory]),
    ]


def _remarks(summaries: Sequence[RowSummary]) -> _Columns:
    """On which views and videos and seeds the scores are."""
    views = [summary.views or None for summary in summaries]
    if len({summary.views for summary in summaries if summary.results}) <= 1:
        views = [None] * len(summaries)
    coverage = [summary.percent("coverage") for summary in summaries]
    if all(share is None or share.mean == 100 for share in coverage):
        coverage = [None] * len(summaries)
    return [
        (Column("views"), views),
        (Column("coverage", "%", 1), coverage),
        (Column("seeds"), [summary.seeds for summary in summaries]),
    ]
