import numpy as np
import pytest

from nlnet.report.run_folder import RunFolder, num_views


def test_a_resumed_run_counts_each_step_once_and_the_last_record(make_run):
    lines = [
        '{"kind":"train","step":20,"loss":2.0}',
        '{"kind":"train","step":30,"loss":9.0}',
        '{"kind":"val","step":30,"loss":5.0}',
        "",
        "no json",
        '{"kind":"train","step":30,"loss":3.0}',
        '{"kind":"train","step":10,"loss":1.0}',
        '{"kind":"train","step":40,"lo',
    ]
    run = RunFolder(make_run("a/s0").text("metrics.jsonl", "\n".join(lines)).path)
    assert [(record["step"], record["loss"]) for record in run.metrics("train")] == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert [record["step"] for record in run.metrics("val")] == [30]


def test_evaluations_come_with_the_most_views_first(make_run):
    fake = make_run("a/s0")
    for views in ("1x1", "fcn", "10x3", "10x1"):
        fake.results(0.5, views=views)
    assert RunFolder(fake.path).views() == ("10x3", "10x1", "1x1", "fcn")
    assert num_views("10x3") == num_views("mmaction2_10x3") == 30
    assert num_views("10xfull") == 10
    assert num_views("4x1-of-10x3-clips0.3.6.9-crops1-largest") == 4


def test_predictions_are_read_as_written(make_run):
    predictions = RunFolder(make_run("a/s0").predictions().path).predictions("10x3")
    assert predictions.num_classes == 3
    assert predictions.predicted()[:3].tolist() == [0, 2, 2]
    assert predictions.paths[2] == "pay/c.mp4"


@pytest.mark.parametrize("size", [0, 10, 400, 900])
def test_torn_predictions_are_none(make_run, size):
    file = make_run("a/s0").predictions().path / "eval/10x3/predictions.npz"
    file.write_bytes(file.read_bytes()[:size])
    assert RunFolder(file.parents[2]).predictions("10x3") is None


def test_predictions_that_do_not_fit_together_are_none(make_run):
    fake = make_run("a/s0").predictions()
    file = fake.path / "eval/10x3/predictions.npz"
    for labels in ([0, 1], [0, 1, 2, 3], [0, 1, 2, -1]):
        np.savez(
            file, scores=np.ones((4, 3)), labels=np.array(labels), scored=np.ones(4, bool), paths=np.array(list("abcd"))
        )
        assert RunFolder(fake.path).predictions("10x3") is None


def test_objects_in_predictions_are_never_unpickled(make_run):
    fake = make_run("a/s0").predictions()
    np.savez(
        fake.path / "eval/10x3/predictions.npz",
        scores=np.ones((1, 3)), labels=np.array([0]), scored=np.ones(1, bool), paths=np.array([{"a": 1}], dtype=object),
    )  # fmt: skip
    assert RunFolder(fake.path).predictions("10x3") is None


def test_a_half_written_picture_is_no_picture(make_run):
    file = make_run("a/s0").complete().path / "contact_sheet.png"
    assert RunFolder(file.parent).contact_sheet() == file.read_bytes()
    file.write_bytes(file.read_bytes()[:-5])
    assert RunFolder(file.parent).contact_sheet() == b""


def test_a_folder_that_is_not_there_is_empty_of_everything(tmp_path):
    run = RunFolder(tmp_path / "nowhere" / "s0")
    assert run.name == "nowhere/s0"
    assert (run.state(), run.reason(), run.config(), run.views(), run.classes()) == ("", "", "", (), ())
    assert (run.metrics("train"), run.bad_videos(), run.contact_sheet(), run.num_classes()) == ([], [], b"", None)
