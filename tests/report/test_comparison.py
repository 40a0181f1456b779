"""Rows of a sweep against the first: the numbers that one gets from the stored predictions by hand."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from nlnet.report.comparison import compare
from nlnet.report.seeds import summarise_rows
from nlnet.report.tables import summarise_runs
from nlnet.study.statistics import bootstrap_of_means, mcnemar

RIGHT = np.random.default_rng(0).random((5, 60)) < np.array([0.4, 0.45, 0.5, 0.8, 0.85])[:, None]


def predict(folder: Path, right, *, paths=None, labels=None) -> Path:
    """A run that is done, with these videos right and the others wrong."""
    (folder / "eval" / "1x1").mkdir(parents=True)
    right = np.asarray(right)
    if labels is None:
        labels = np.arange(len(right)) % 10
        scores = np.eye(10)[np.where(right, labels, (labels + 1) % 10)]
        results = {"top1": float(right.mean()), "top5": 1.0}
    else:
        scores, results = right, {"map": 0.5}
    names = [f"v{n}.mp4" for n in range(len(right))] if paths is None else paths
    np.savez(
        folder / "eval" / "1x1" / "predictions.npz",
        scores=scores.astype(np.float32),
        labels=labels,
        scored=np.ones(len(right), dtype=bool),
        paths=np.array(names),
    )
    (folder / "eval" / "1x1" / "results.json").write_text(json.dumps({**results, "coverage": 1.0}))
    (folder / "status.json").write_text('{"state": "DONE"}')
    (folder / "costs.json").write_text(json.dumps({"params": 1e6, "macs": 2e9, "peak_memory": 300 * 2**20}))
    lines = [{"kind": "train", "step": step, "clips_per_second": speed} for step, speed in enumerate([9, 50, 60])]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def rows(tmp_path):
    """Three seeds of a baseline, and two of a better network."""
    names = ["base/s0", "base/s1", "base/s2", "nl/s0", "nl/s1"]
    runs = [predict(tmp_path / name, right) for name, right in zip(names, RIGHT, strict=True)]
    return [
        {"name": "base", "runs": runs[:3], "changed": {"model/placement": "none", "seed": "0"}},
        {"name": "nl", "runs": runs[3:], "changed": {"model/placement": "five", "seed": "0"},
         "published": (73.8, 91.0), "published_cost": (1.2, 1.3)},
    ]  # fmt: skip


def test_interval_and_p_are_those_of_the_stored_predictions(rows):
    baseline, better = summarise_rows(rows)
    found = compare(better, baseline)
    expected = bootstrap_of_means(RIGHT[3:], RIGHT[:3])
    assert (found.interval.low, found.interval.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert found.p == min(1, 2 * max(mcnemar(RIGHT[3], RIGHT[0]), mcnemar(RIGHT[4], RIGHT[1])))


def test_the_table_has_changed_keys_differences_and_costs(rows):
    table = summarise_runs(rows)
    record = list(csv.DictReader(io.StringIO(table.to_csv())))[1]
    assert list(record) == [
        "name", "model/placement", "top-1 (%)", "top-1 std (%)", "top-5 (%)", "top-5 std (%)", "Δ top-1 (points)",
        "95% interval low (points)", "95% interval high (points)", "McNemar p", "params (M)", "MACs (G)",
        "training (clips/s)", "peak memory (MiB)", "published top-1 (%)", "published top-5 (%)",
        "published params (× first)", "published MACs (× first)", "seeds",
    ]  # fmt: skip
    assert record["model/placement"] == "five"
    difference = 100 * (RIGHT[3:].mean() - RIGHT[:3].mean())
    assert float(record["Δ top-1 (points)"]) == pytest.approx(difference)
    assert float(record["95% interval low (points)"]) < difference < float(record["95% interval high (points)"])
    assert (record["training (clips/s)"], record["peak memory (MiB)"]) == ("50", "300")
    shown = table.to_markdown().splitlines()[3]
    assert f"+{float(record['95% interval low (points)']):.1f} to +" in shown
    assert "<0.001" not in table.to_markdown().splitlines()[2]


def test_latex_compiles_as_far_as_one_can_see(rows):
    rows[1]["name"] = "50% of $x_1$ & \\more"
    lines = summarise_runs(rows).to_latex().splitlines()
    assert lines[0].startswith(r"\begin{tabular}{ll")
    assert lines[-1] == r"\end{tabular}"
    columns = lines[2].count("&")
    assert [line.replace(r"\&", "").count("&") for line in lines[4:6]] == [columns, columns]
    assert r"50\% of \$x\_1\$ \& \textbackslash{}more" in lines[5]
    assert r"$\pm$" in lines[5]
    assert r"\textbf{" in lines[5]


def test_other_videos_cannot_be_compared(rows, tmp_path):
    rows[1]["runs"] = [predict(tmp_path / "other" / "s0", RIGHT[3], paths=[f"w{n}.mp4" for n in range(60)])]
    baseline, better = summarise_rows(rows)
    assert compare(better, baseline) is None
    assert "McNemar p" not in summarise_runs(rows).to_csv()


def test_seeds_that_differ_have_an_interval_but_no_p(rows):
    rows[0]["runs"] = rows[0]["runs"][2:]
    baseline, better = summarise_rows(rows)
    assert compare(better, baseline).p is None


def test_several_labels_are_compared_by_their_map(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.random((80, 6)) < 0.3
    good, bad = labels + generator.normal(0, 0.4, labels.shape), labels + generator.normal(0, 3, labels.shape)
    rows = [
        {"name": name, "runs": [predict(tmp_path / name / "s0", scores, labels=labels)]}
        for name, scores in (("bad", bad), ("good", good))
    ]
    baseline, better = summarise_rows(rows)
    found = compare(better, baseline)
    assert found.p is None
    assert 20 < found.interval.low < found.interval.high < 80
    headings = summarise_runs(rows).to_csv().splitlines()[0]
    assert headings.startswith("name,mAP (%),Δ mAP (points),95% interval low (points)")
