import json

import numpy as np
import pytest

from nlnet.report.curves import MAX_POINTS, ROW_PANELS, draw_learning_curves, learning_curves, legend, read_series
from nlnet.report.pictures import CSS_NAMES, SERIES, label, series_style, to_svg
from nlnet.report.run_folder import RunFolder

LOSS, TOP1 = ROW_PANELS[0], ROW_PANELS[1]


def folders(*runs):
    return [RunFolder(run.path) for run in runs]


def test_the_mean_is_that_of_the_seeds_where_all_have_a_value(make_run):
    runs = folders(make_run("a/s0").metrics(top1=0.4, steps=5), make_run("a/s1").metrics(top1=0.6, steps=3))
    seeds, mean = read_series(runs, TOP1, "val")
    assert [len(curve.x) for curve in seeds] == [5, 3]
    assert mean.x.tolist() == [0.0, 0.5, 1.0]
    assert mean.y.tolist() == pytest.approx([50.0, 50.0, 50.0])


def test_one_seed_has_no_mean_and_an_empty_one_does_not_count(make_run):
    seeds, mean = read_series(folders(make_run("a/s0").metrics(), make_run("a/s1")), LOSS, "train")
    assert len(seeds) == 1
    assert mean is None
    assert read_series(folders(make_run("b/s0")), LOSS, "train") == ((), None)


def test_a_loss_that_is_no_number_is_a_gap(make_run):
    losses = [2.0, float("nan"), 1.0]
    lines = [json.dumps({"kind": "train", "step": i, "epoch": i, "loss": loss}) for i, loss in enumerate(losses)]
    (curve,), _ = read_series(folders(make_run("a/s0").text("metrics.jsonl", "\n".join(lines))), LOSS, "train")
    np.testing.assert_array_equal(curve.y, losses)


def test_long_runs_are_thinned_by_averaging(make_run):
    num = 10 * MAX_POINTS
    lines = [json.dumps({"kind": "train", "step": i, "epoch": i, "loss": float(i % 10)}) for i in range(num)]
    (curve,), _ = read_series(folders(make_run("a/s0").text("metrics.jsonl", "\n".join(lines))), LOSS, "train")
    np.testing.assert_allclose(curve.y, np.full(MAX_POINTS, 4.5))
    np.testing.assert_allclose(curve.x[:2], [4.5, 14.5])


def test_one_row_has_four_figures_and_the_legend_of_their_kinds(make_run):
    row = {"first": [make_run("a/s0").metrics().path, make_run("a/s1").metrics().path]}
    figures = draw_learning_curves(row)
    assert [figure.axes[0].get_title(loc="left") for figure in figures] == [
        panel.title for panel in ROW_PANELS if panel.metric != "map"
    ]
    # Training and validation: two seeds and a mean of each.
    assert len(figures[0].axes[0].lines) == 6
    assert [name for name, _, _ in legend(row)] == ["training", "validation"]


def test_the_rows_of_a_sweep_have_a_colour_each(make_run):
    rows = {name: [make_run(f"{name}/s0").metrics().path] for name in ("a", "b")}
    rows["nothing yet"] = [make_run("c/s0").path]
    lines = draw_learning_curves(rows)[0].axes[0].lines
    assert [line.get_color() for line in lines] == [SERIES[0], SERIES[1]]
    assert legend(rows)[2] == ("nothing yet", SERIES[2], "solid")


def test_colours_repeat_with_another_dash():
    styles = [series_style(index) for index in range(2 * len(SERIES))]
    assert len(set(styles)) == len(styles)


def test_one_png_for_all(make_run):
    rows = {name: [make_run(f"{name[-1]}/s0").metrics().path] for name in ("$\\broken{$ a", "_hidden b")}
    assert learning_curves(rows, title="Table $2a").startswith(b"\x89PNG")
    assert learning_curves({"empty": [make_run("e/s0").path]}) == b""


def test_labels_from_files_are_made_printable():
    assert label("two\nlines\x00\udcff") == "two lines??"
    assert label("x" * 50, limit=10) == "xxxxxxxxx…"
    assert label("_private") == " _private"


def test_svg_takes_its_colours_from_the_page_and_text_stays_text(make_run):
    figure = draw_learning_curves({"a": [make_run("a/s0").metrics().path]})[0]
    svg = to_svg(figure)
    assert svg.startswith("<svg")
    assert "Loss</text>" in svg
    assert "http" not in svg
    for colour, name in CSS_NAMES.items():
        assert svg.count(colour) == svg.count(f"var(--{name}, {colour})")
    assert f"var(--series-0, {SERIES[0]})" in svg
    assert to_svg(draw_learning_curves({"a": [figure_path(make_run)]})[0]) == svg


def figure_path(make_run):
    """The same numbers in another folder."""
    return make_run("b/s0").metrics().path
