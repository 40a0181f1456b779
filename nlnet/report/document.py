"""The pieces of a one-file page: [text, tables, pictures] -> HTML. Text is escaped here, and only here.

Every function takes plain text where it says ``text`` and finished HTML where it says ``markup``.
"""

import base64
import html
import struct
from collections.abc import Sequence
from importlib import resources
from string import Template

from matplotlib.figure import Figure

from nlnet.report.pictures import CSS_NAMES, to_svg

# Width of the text in page.css, max-width less the padding.
PAGE_PIXELS = 1090


def page(title_text: str, body_markup: str) -> str:
    """The whole file: style inside, no script, no address outside."""
    files = resources.files("nlnet.report")
    template = Template((files / "page.html").read_text(encoding="utf-8"))
    style = (files / "page.css").read_text(encoding="utf-8")
    return template.substitute(title=escape(title_text), style=style, body=body_markup)


def escape(text: str) -> str:
    return html.escape(text)


def section(title_text: str, *parts_markup: str) -> str:
    """A heading with what belongs under it; nothing at all when there is nothing under it."""
    body = "\n".join(part for part in parts_markup if part)
    return f"<section>\n<h2>{escape(title_text)}</h2>\n{body}\n</section>\n" if body else ""


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def scroll(markup: str) -> str:
    """A box of its own for something wide."""
    return f'<div class="scroll">{markup}</div>'


def details(summary_text: str, markup: str) -> str:
    """Folded away until it is clicked."""
    return f"<details><summary>{escape(summary_text)}</summary>\n{markup}\n</details>"


def preformatted(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """(what, value) pairs of text as a row of large numbers."""
    items = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in pairs)
    return f'<dl class="facts">{items}</dl>' if items else ""


def plots(figures: Sequence[Figure]) -> str:
    """Small figures side by side, below each other on a phone."""
    items = "\n".join(f"<figure>{to_svg(figure)}</figure>" for figure in figures)
    return f'<div class="plots">{items}</div>' if items else ""


def picture(figure: Figure, caption_text: str) -> str:
    """One figure at its own size, on a phone down to three quarters of it; then it scrolls, to stay readable."""
    width = round(figure.get_figwidth() * 96)
    style = f"width:clamp({round(0.72 * width)}px, 100%, {width}px)"
    caption = f"<figcaption>{escape(caption_text)}</figcaption>"
    drawing = f'<div style="{style}">{to_svg(figure)}</div>'
    return f"<figure>{caption}{scroll(drawing)}</figure>"


def image(png: bytes, *, alternative_text: str) -> str:
    """A PNG inside the page, at its own size up to the width of the page's text."""
    source, width, height = _embedded(png)
    shown = min(width, PAGE_PIXELS)
    return scroll(
        f'<div class="sheet"><img src="{source}" width="{shown}" '
        f'height="{round(height * shown / width)}" alt="{escape(alternative_text)}"></div>'
    )


def captioned_image(png: bytes, *, caption_text: str) -> str:
    """A PNG that shrinks with the page, and what it shows below it."""
    source, width, height = _embedded(png)
    text = escape(caption_text)
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" alt="{text}"><figcaption>{text}</figcaption>'
        "</figure>"
    )


def side_by_side(figures_markup: Sequence[str]) -> str:
    """Figures in as many columns as there is room for."""
    return f'<div class="plots shots">{"".join(figures_markup)}</div>' if figures_markup else ""


def _embedded(png: bytes) -> tuple[str, int, int]:
    """Address with the picture in it, width and height."""
    # Width and height stand at fixed places of every PNG: the first chunk after the signature.
    width, height = struct.unpack(">II", png[16:24])
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}", width, height


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """(name text, colour, dash) of each series, as a list above the plots."""
    items = "".join(
        f'<li><i style="border-top-style:{dash};color:var(--{CSS_NAMES[colour]})"></i>{escape(name)}</li>'
        for name, colour, dash in entries
    )
    return f'<ul class="legend">{items}</ul>'
