"""What a sweep leaves in its folder: tables, runs and pictures that can be traced to the runs' own files."""

import csv
import hashlib

import numpy as np
import pytest

from nlnet.report.curves import ROW_PANELS, read_band
from nlnet.report.run_folder import RunFolder
from nlnet.report.seeds import summarise_rows
from nlnet.report.sweep_files import write_sweep_files
from nlnet.report.sweep_plots import score_by_distance

PATHS = [
    f"val/time_{time:02d}_space_{space:02d}/{n}.mp4" for time, space in [(0, 7), (3, 7), (0, 12)] for n in range(4)
]


def at_distances(run, right):
    """A finished run that had these videos right, of two classes, four videos at each of three distances."""
    run.status("DONE").classes(["a", "b"]).costs().results(float(np.mean(right)), views="1x1").metrics()
    run.text("config.yaml", f"name: {run.path.parent.name}\n")
    labels = np.arange(12) % 2
    np.savez(
        run.path / "eval" / "1x1" / "predictions.npz",
        scores=np.eye(2)[np.where(right, labels, 1 - labels)],
        labels=labels,
        scored=np.ones(12, dtype=bool),
        paths=np.array(PATHS),
    )
    return run


@pytest.fixture
def rows(make_run):
    near = [at_distances(make_run(f"near/s{seed}"), [1] * 4 + [0, 0, 1, seed] + [1] * 4) for seed in (0, 1)]
    far = at_distances(make_run("far/s0"), [1] * 12)
    return [{"name": "near", "runs": [run.path for run in near]}, {"name": "far", "runs": [far.path]}]


def test_scores_by_the_distance_in_the_path(rows):
    near, far = (score_by_distance(summary) for summary in summarise_rows(rows))
    assert [(at.time, at.space, at.videos) for at in near] == [(0, 7, 4), (0, 12, 4), (3, 7, 4)]
    assert [at.score.mean for at in near] == [100, 100, 37.5]  # 1 and 2 of 4 at time 3
    assert near[2].score.deviation == pytest.approx(25 / np.sqrt(2))
    assert {at.score.mean for at in far} == {100}


def test_all_files_are_written_and_lead_back_to_the_runs(rows, tmp_path):
    folder = tmp_path / "sweep"
    write_sweep_files(folder, title="Near & far", rows=rows, notes={"command": "nlnet sweep"})
    written = {path.name for path in folder.iterdir()}
    assert written == {
        "table.csv", "table.md", "table.tex", "table.html", "runs.csv", "report.html", "learning_curves.png",
        "accuracy_against_macs.png", "accuracy_against_distance.png", "accuracy_against_distance.csv",
    }  # fmt: skip
    with (folder / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [run["run"] for run in runs] == ["near/s0", "near/s1", "far/s0"]
    config = (tmp_path / runs[0]["run"] / "config.yaml").read_bytes()
    assert runs[0]["config_sha256"] == hashlib.sha256(config).hexdigest()
    assert float(runs[0]["top1"]) == pytest.approx(9 / 12)
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in written if name.endswith(".png"))


def test_a_sweep_of_nothing_has_a_table_and_no_pictures(tmp_path):
    write_sweep_files(tmp_path / "s", title="t", rows=[{"name": "a", "runs": [tmp_path / "a"]}], notes={})
    assert not list((tmp_path / "s").glob("*.png"))


def test_the_band_is_one_deviation_to_both_sides(make_run):
    runs = [RunFolder(make_run(f"a/s{seed}").metrics(top1=top1).path) for seed, top1 in enumerate((0.4, 0.6))]
    low, high = read_band(runs, ROW_PANELS[1], "val")
    assert low.x.tolist() == high.x.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert low.y[0] == pytest.approx(50 - 10 * np.sqrt(2))
    assert high.y[0] == pytest.approx(50 + 10 * np.sqrt(2))
    assert read_band(runs[:1], ROW_PANELS[1], "val") is None
