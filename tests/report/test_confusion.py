import numpy as np
import pytest

from nlnet.report.confusion import (
    ConfusedPair,
    confused_pairs,
    count_confusions,
    draw_confusion,
    row_shares,
    worst_classes,
)
from nlnet.report.pictures import to_png, to_svg
from nlnet.report.run_folder import RunFolder


def test_counts_of_the_scored_videos(make_run):
    predictions = RunFolder(make_run("a/s0").predictions().path).predictions("10x3")
    assert count_confusions(predictions).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_shares_are_of_the_true_class_and_zero_without_videos():
    shares = row_shares(np.array([[3, 1], [0, 0]]))
    assert shares.tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_small_sets_keep_their_order_and_large_ones_show_the_worst():
    counts = np.array([[4, 0, 0], [2, 2, 0], [0, 3, 1]])
    assert worst_classes(counts) == [0, 1, 2]
    assert worst_classes(counts, limit=2) == [2, 1]
    # A class without videos is no bad class.
    assert worst_classes(np.diag([1, 0, 1]), limit=2) == [0, 2]


def test_pairs_by_number_of_videos():
    counts = np.array([[4, 1, 0], [2, 2, 0], [0, 2, 0]])
    assert confused_pairs(counts, limit=2) == [ConfusedPair(2, 1, 2, 1.0), ConfusedPair(1, 0, 2, 0.5)]
    assert confused_pairs(np.eye(3, dtype=int), limit=5) == []


@pytest.mark.parametrize("num_classes", [1, 2, 12, 13, 60])
def test_the_picture_takes_any_number_of_classes_and_any_name(num_classes):
    counts = np.random.default_rng(0).integers(0, 5, (num_classes, num_classes))
    names = [f"<b> $x_{index} _ {'long ' * 20}" for index in range(num_classes)]
    figure = draw_confusion(counts, names)
    assert len(figure.axes[0].get_yticklabels()) == min(num_classes, 40)
    assert "<b>" not in to_svg(figure)
    if num_classes == 12:
        assert to_png(figure).startswith(b"\x89PNG")
