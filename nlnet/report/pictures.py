"""What all plots share: colours that a page can change for the dark, clean labels, and the way to PNG or SVG."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# Ink on paper. In SVG each becomes a CSS variable of the same name (page.css gives both sets, light and dark).
INK, MUTED, LINE = "#1b1f24", "#5a626c", "#d5d9de"
# The series' colours can be told apart with any colour vision; after Okabe & Ito (2008), darkened to 3:1 on white.
SERIES = ("#0072b2", "#d55e00", "#008a64", "#aa4499", "#8c6d00", "#5f6670")
CSS_NAMES: Mapping[str, str] = {
    INK: "ink", MUTED: "muted", LINE: "line", **{colour: f"series-{i}" for i, colour in enumerate(SERIES)}
}  # fmt: skip
DASHES = ("solid", "dashed", "dotted")


def series_style(index: int) -> tuple[str, str]:
    """Number of a series -> (colour, dash): the colours run through first, then come again dashed and dotted."""
    return SERIES[index % len(SERIES)], DASHES[index // len(SERIES) % len(DASHES)]


def label(text: str, *, limit: int = 40) -> str:
    """Text from a file made fit for a plot: one line, printable, shortened at the end."""
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    # matplotlib takes a leading underscore in a legend for 'do not show'.
    return f" {text}" if text.startswith("_") else text


def new_figure(*, width: float, height: float) -> Figure:
    """An empty figure, inches, outside pyplot: no global state, no window, any thread."""
    return Figure(figsize=(width, height), layout="constrained")


def style_axes(axes: Axes) -> None:
    """Muted ticks, a light horizontal grid, no box."""
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)


def to_png(figure: Figure, *, dots_per_inch: int = 150, paper: str = "white") -> bytes:
    """Figure -> PNG on paper of that colour."""
    _take_labels_literally(figure)
    output = io.BytesIO()
    with _missing_glyphs_allowed():
        figure.savefig(output, format="png", dpi=dots_per_inch, facecolor=paper)
    return output.getvalue()


def to_svg(figure: Figure) -> str:
    """Figure -> an <svg> element to put into a page: transparent, text as text, colours as CSS variables."""
    _take_labels_literally(figure)
    output = io.StringIO()
    no_metadata: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt makes the same figure the same bytes; text stays text, in the font and colour of the page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "nlnet"}), _missing_glyphs_allowed():
        figure.savefig(output, format="svg", transparent=True, metadata=no_metadata)
    svg = output.getvalue()
    svg = svg[svg.index("<svg") :]
    # The page sets the size; an HTML parser needs no name spaces.
    svg = re.sub(r'\s(xmlns(:xlink)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    # Names like 'axes_1' would come twice in a page with two figures; nothing refers to them.
    svg = re.sub(r' id="[A-Za-z0-9]+_\d+"', "", svg)
    return re.sub(r"#[0-9a-f]{6}\b", _css_variable, svg)


def _css_variable(match: re.Match[str]) -> str:
    name = CSS_NAMES.get(match[0])
    return f"var(--{name}, {match[0]})" if name else match[0]


@contextmanager
def _missing_glyphs_allowed() -> Iterator[None]:
    """No warning for each letter that matplotlib's font lacks: a PNG gets a box, in SVG the browser finds a font."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _take_labels_literally(figure: Figure) -> None:
    """A class called 'a$b$' is no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
