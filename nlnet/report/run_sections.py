"""The sections of a run's report, each from its own file in the run folder: [run] -> HTML.

A section whose file is missing says so, or is left out where nothing is missed (no bad videos, no mistakes).
"""

import json
import statistics
from collections.abc import Mapping, Sequence

from nlnet.report import document
from nlnet.report.confusion import MAX_CLASSES, confused_pairs, count_confusions, draw_confusion
from nlnet.report.curves import draw_learning_curves, legend
from nlnet.report.mistakes import pictures, worst_mistakes
from nlnet.report.run_folder import (
    BAD_VIDEOS_FILE,
    PER_CLASS_FILE,
    PREDICTIONS_FILE,
    UNSCORED_FILE,
    Predictions,
    RunFolder,
    number,
)
from nlnet.report.tables import ABSENT, Cell, Column, Table, format_number

MAX_CLASS_ROWS = 40
MAX_MISTAKES = 20
MAX_PAIRS = 12
MAX_BAD_VIDEOS = 50


def class_names(run: RunFolder, views: str, predictions: Predictions | None) -> list[str]:
    """One name per class: from classes.txt, or else per_class.csv, and 'class 7' where they have none."""
    names = list(run.classes()) or [record["class"] for record in run.per_class(views)]
    num_classes = predictions.num_classes if predictions else len(names)
    return [names[index] if index < len(names) else f"class {index}" for index in range(num_classes)]


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{format_number(100 * value, decimals=1)}%"


def heading(run: RunFolder, views: str) -> str:
    state = run.state()
    badge = (
        f'<span class="state {document.escape(state.lower())}">{document.escape(state.lower() or "no state")}</span>'
    )
    parts = [f"<h1>{document.escape(run.name)}</h1>", f"<p>{badge}</p>"]
    if run.reason():
        parts.append(document.paragraph(run.reason()))
    if not views:
        return "\n".join([*parts, document.note("Not evaluated yet: there is no readable eval/<views>/results.json.")])
    results, num_classes = run.results(views), run.num_classes()
    scored, videos = number(results, "num_scored"), number(results, "num_videos")
    one_label = "map" not in results
    pairs = [("top-1", _percent(number(results, "top1")))] if one_label else [("mAP", _percent(number(results, "map")))]
    if one_label and (num_classes is None or num_classes > 5):
        pairs.append(("top-5", _percent(number(results, "top5"))))
    if one_label and num_classes:
        pairs.append((f"chance, 1 of {num_classes} classes", f"{100 / num_classes:.3g}%"))
    if (mean_accuracy := number(results, "mean_class_accuracy")) is not None:
        pairs.append(("mean over classes", _percent(mean_accuracy)))
    if scored is not None and videos is not None:
        pairs.append(("videos scored", f"{scored:.0f} of {videos:.0f}"))
    pairs.append(("coverage", _percent(number(results, "coverage"))))
    source = [f"Views per video: {views}"]
    if (step := number(results, "step")) is not None:
        source.append(f"step {step:.0f}")
    if results.get("checkpoint"):
        source.append(f"checkpoint {results['checkpoint']}")
    return "\n".join([*parts, document.facts(pairs), document.note(" · ".join(source) + _wrong_note(scored, videos))])


def _wrong_note(scored: float | None, videos: float | None) -> str:
    if scored is None or videos is None or scored >= videos:
        return ""
    return ". Videos that could not be decoded count as wrong."


def evaluations(run: RunFolder, views: Sequence[str]) -> str:
    """All evaluations of the run, where there is more than the one of the headline."""
    if len(views) < 2:
        return ""
    several = "map" in run.results(views[0])
    scores = {"mAP": "map"} if several else {"top-1": "top1", "top-5": "top5"}
    columns = [Column("views"), *(Column(title, "%", 1) for title in (*scores, "coverage"))]
    rows: list[list[Cell]] = []
    for name in views:
        values = (number(run.results(name), key) for key in (*scores.values(), "coverage"))
        rows.append([name, *(None if value is None else 100 * value for value in values)])
    return document.section("Evaluations", document.scroll(Table(columns, rows).to_html()))


def learning(run: RunFolder) -> str:
    curves = {run.name: [run.path]}
    figures = draw_learning_curves(curves)
    if not figures:
        return document.section(
            "Learning curves", document.note("Nothing logged yet: no readable line in metrics.jsonl.")
        )
    return document.section("Learning curves", document.legend(legend(curves)), document.plots(figures))


def contact_sheet(run: RunFolder, title: str) -> str:
    png = run.contact_sheet()
    return document.section(
        title, document.image(png, alternative_text="frames of clips, one clip per row") if png else ""
    )


def confusion(run: RunFolder, views: str, predictions: Predictions | None, classes: Sequence[str]) -> str:
    if views and "map" in run.results(views):
        return ""  # with several labels there is no class that another is taken for
    if predictions is None:
        missing = f"eval/{views}/{PREDICTIONS_FILE} is missing or cannot be read."
        return document.section("Confusions", document.note(missing)) if views else ""
    counts = count_confusions(predictions)
    caption = "Each row is a true class, in percent of its scored videos."
    if len(classes) > MAX_CLASSES:
        caption += (
            f" Shown are the {MAX_CLASSES} classes missed most often, worst first; the other columns are left out."
        )
    pairs = confused_pairs(counts, limit=MAX_PAIRS)
    columns = [Column("true class"), Column("taken for"), Column("videos"), Column("of its class", "%", 1)]
    rows: list[list[Cell]] = [
        [classes[pair.true], classes[pair.predicted], pair.videos, 100 * pair.share] for pair in pairs
    ]
    table = Table(columns, rows).to_html() if rows else ""
    return document.section(
        "Confusions",
        document.picture(draw_confusion(counts, classes), caption),
        document.note("Most frequent errors:") + document.scroll(table) if rows else "",
    )


def per_class(run: RunFolder, views: str) -> str:
    several = bool(views) and "map" in run.results(views)
    rows: list[list[Cell]] = []
    for record in run.per_class(views) if views else []:
        row = _precision_row(record) if several else _accuracy_row(record)
        rows += [row] if row else []
    if not rows:
        missing = f"eval/{views}/{PER_CLASS_FILE} is missing or cannot be read."
        return document.section("Classes", document.note(missing)) if views else ""
    rows.sort(key=lambda row: (row[-1] is None, row[-1]))
    scores = [Column("average precision", "%", 1)] if several else [Column("correct"), Column("accuracy", "%", 1)]
    columns = [Column("class"), Column("videos"), *scores]
    cut = f" The worst {MAX_CLASS_ROWS} of {len(rows)}; the others are in {PER_CLASS_FILE}."
    return document.section(
        "Classes",
        document.note("Worst first." + (cut if len(rows) > MAX_CLASS_ROWS else "")),
        document.scroll(Table(columns, rows[:MAX_CLASS_ROWS]).to_html()),
    )


def _accuracy_row(record: Mapping[str, str]) -> list[Cell]:
    """Class, videos, correct, percent; nothing where the record is not whole."""
    try:
        videos, correct = int(record["videos"]), int(record["correct"])
    except (KeyError, TypeError, ValueError):
        return []
    return [record["class"], videos, correct, 100 * correct / videos if videos else None]


def _precision_row(record: Mapping[str, str]) -> list[Cell]:
    """Class, videos, average precision in percent; nothing where the record is not whole."""
    try:
        videos = int(record["videos"])
        precision = 100 * float(record["average_precision"]) if videos else None
    except (KeyError, TypeError, ValueError):
        return []
    return [record["class"], videos, precision]


def mistakes(run: RunFolder, views: str, predictions: Predictions | None, classes: Sequence[str]) -> str:
    """The wrong answers given with the highest scores, the first of them in pictures."""
    if predictions is None:
        return ""
    worst = worst_mistakes(predictions, limit=MAX_MISTAKES)
    if not worst:
        return ""
    predicted = predictions.predicted()
    rows: list[list[Cell]] = [
        [
            predictions.paths[video],
            classes[predictions.labels[video]],
            classes[predicted[video]],
            float(predictions.scores[video, predicted[video]]),
            float(predictions.scores[video, predictions.labels[video]]),
        ]
        for video in worst
    ]
    columns: list[str | Column] = ["video", "true", "predicted"]
    columns += [Column("score", decimals=2), Column("score of the true class", decimals=2)]
    scored = predictions.scored
    wrong = int(((predicted != predictions.labels) & scored).sum())
    drawn = [
        document.captioned_image(
            png,
            caption_text=f"{predictions.paths[video]}: {classes[predictions.labels[video]]}, taken for "
            f"{classes[predicted[video]]} ({predictions.scores[video, predicted[video]]:.2f})",
        )
        for video, png in pictures(run, views, worst).items()
    ]
    seen = (
        "Below the frames of a clip stands what the last non-local block attends to from the position that it changes "
        "most or, for a network without blocks, what speaks for the class it was taken for."
    )
    return document.section(
        "Worst mistakes",
        document.note(f"{wrong} of {int(scored.sum())} scored videos are wrong; the surest errors first."),
        document.note(seen) if drawn else "",
        document.side_by_side(drawn),
        document.scroll(Table(columns, rows).to_html()),
    )


def costs(run: RunFolder) -> str:
    costs = run.costs()
    pairs = [
        (f"{what} ({unit})", format_number(value / per))
        for what, key, unit, per in (
            ("parameters", "params", "M", 1e6),
            ("MACs per clip", "macs", "G", 1e9),
            ("activations per clip in training, float32", "activations", "MiB", 2**20),
        )
        if (value := number(costs, key)) is not None
    ]
    if isinstance(clip := costs.get("clip"), list):
        pairs.append(("clip: frames × height × width", " × ".join(str(size) for size in clip[:3])))
    speeds = [speed for record in run.metrics("train") if (speed := number(record, "clips_per_second")) is not None]
    if speeds:
        pairs.append(("clips per second, median", format_number(statistics.median(speeds))))
    return document.section("Costs", document.facts(pairs))


def bad_videos(run: RunFolder, views: str) -> str:
    """What could not be decoded: in training it was replaced by others, in the evaluation it counts as wrong."""
    lists = [
        ("training videos could not be decoded and were replaced by others", BAD_VIDEOS_FILE, run.bad_videos()),
        ("evaluation videos could not be decoded and count as wrong", UNSCORED_FILE, run.unscored(views)),
    ]
    parts = []
    for what, file, videos in lists if views else lists[:1]:
        if videos:
            cut = f" (the first {MAX_BAD_VIDEOS}; all are in {file})" if len(videos) > MAX_BAD_VIDEOS else ""
            rows = [[video["path"], video["reason"]] for video in videos[:MAX_BAD_VIDEOS]]
            table = Table(["video", "reason"], rows).to_html()
            parts += [document.note(f"{len(videos)} {what}{cut}:"), document.scroll(table)]
    return document.section("Bad videos", *parts)


def folded(run: RunFolder) -> str:
    """What was chosen, the whole config and the environment, closed until clicked."""
    config, environment, differences = run.config(), run.environment(), run.differences()
    changed: list[list[Cell]] = [
        [key, *(ABSENT if value is None else json.dumps(value, ensure_ascii=False) for value in pair)]
        for key, pair in differences.items()
        if isinstance(pair, list) and len(pair) == 2
    ]
    values: list[list[Cell]] = [
        [str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
        for key, value in environment.items()
    ]
    return document.section(
        "How it was made",
        document.details(
            f"Differences from the default config ({len(changed)} keys)",
            document.scroll(Table(["key", "default", "here"], changed).to_html()),
        )
        if changed
        else "",
        document.details("Config, as resolved", document.preformatted(config)) if config else "",
        document.details("Environment", document.scroll(Table(["what", "value"], values).to_html())) if values else "",
    )
