"""A dot per row of a comparison on one scale, with its seeds and deviation: [summaries] -> HTML.

Drawn with styles instead of as a picture: long names wrap, text stays text, and it reflows on a phone.
"""

import math
from collections.abc import Sequence

from nlnet.report.document import escape
from nlnet.report.run_folder import number
from nlnet.report.seeds import RowSummary
from nlnet.report.tables import Column

# The chance level is drawn only where it does not squeeze the rows together.
MAX_RANGE_FOR_CHANCE = 75.0


def choose_scale(values: Sequence[float], *, chance: float | None) -> tuple[float, float]:
    """Percentages -> (low, high) of the scale: multiples of 5 around them, with chance inside if it is near."""
    low, high = min(values), max(values)
    if chance is not None and high - chance <= MAX_RANGE_FOR_CHANCE:
        low = min(low, chance)
    low, high = 5 * math.floor((low - 1) / 5), 5 * math.ceil((high + 1) / 5)
    return float(max(0, low)), float(min(100, high))


def dot_plot(summaries: Sequence[RowSummary], *, chance: float | None) -> str:
    """The score of each row in percent; ``chance`` in percent. Empty when no row has a result."""
    means = [summary.score() for summary in summaries]
    values = [summary.published[0] for summary in summaries if summary.published[0] is not None]
    for mean in means:
        if mean is not None:
            deviation = mean.deviation or 0.0
            values += [mean.mean - deviation, mean.mean + deviation]
    for summary in summaries:
        values += _seed_values(summary)
    if not any(means):
        return ""
    low, high = choose_scale(values, chance=chance)

    def position(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    lines = []
    for summary, mean in zip(summaries, means, strict=True):
        marks = []
        if chance is not None and low <= chance:
            marks.append(f'<span class="chance" style="left:{position(chance)}%"></span>')
        if mean is not None and mean.deviation is not None:
            start, end = position(mean.mean - mean.deviation), position(mean.mean + mean.deviation)
            marks.append(f'<span class="error" style="left:{start}%;width:{round(end - start, 2)}%"></span>')
            marks += [f'<span class="seed" style="left:{position(seed)}%"></span>' for seed in _seed_values(summary)]
        if mean is not None:
            marks.append(f'<span class="mean" style="left:{position(mean.mean)}%"></span>')
        if summary.published[0] is not None:
            marks.append(f'<span class="published" style="left:{position(summary.published[0])}%"></span>')
        shown = Column("score", "%", 1).show(mean) if mean is not None else summary.seeds
        lines.append(
            f'<div class="name">{escape(summary.name)}</div><div class="value">{escape(shown)}</div>'
            f'<div class="track">{"".join(marks)}</div>'
        )
    scale = f'<div class="scale"><span>{low:.0f}%</span><span>{high:.0f}%</span></div>'
    return f'<div class="dots">{"".join(lines)}{scale}</div>'


def explanation(summaries: Sequence[RowSummary], *, chance: float | None) -> str:
    """What the marks mean, naming only those that are drawn."""
    score = "mAP" if any(summary.several_labels for summary in summaries) else "top-1"
    parts = [f"Dot: {score} on the evaluation videos."]
    if any(len(summary.results) > 1 for summary in summaries):
        parts = [f"Dot: mean {score} over the seeds; bar: ± one standard deviation; ticks: the seeds."]
    if any(summary.published[0] is not None for summary in summaries):
        parts.append("Diamond: published.")
    if chance is not None:
        parts.append(f"Dashed line: chance, {chance:.3g}% (not drawn where it is far below).")
    return " ".join(parts)


def _seed_values(summary: RowSummary) -> list[float]:
    key = "map" if summary.several_labels else "top1"
    return [100 * score for result in summary.results if (score := number(result, key)) is not None]
