import html
import re
from html.parser import HTMLParser
from importlib import resources
from urllib.parse import unquote

import numpy as np
import pytest

from nlnet.errors import DataError
from nlnet.report.dot_plot import choose_scale
from nlnet.report.page import write_run_report, write_sweep_report
from nlnet.report.pictures import CSS_NAMES

VOID = {"meta", "img", "br", "path", "use", "image", "rect", "link"}


class Page(HTMLParser):
    """What a browser would load, run or show."""

    def __init__(self, path):
        super().__init__()
        self.markup = path.read_text(encoding="utf-8")
        self.tags, self.addresses, self.open, self.words = set(), [], [], []
        self.feed(self.markup)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"a script in {name}"
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.addresses.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def check_one_file(page):
    """Nothing outside is loaded, nothing is run, and every element is closed."""
    assert page.open == []
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "form", "i-from-a-file"}
    assert not re.search(r"@import|url\((?!#)", page.markup)
    outside = [address for address in page.addresses if not address.startswith(("data:image/png;base64,", "#"))]
    assert all(re.fullmatch(r"[\w%./-]+/report\.html", address) for address in outside), outside
    return outside


def test_a_complete_run(make_run):
    run = make_run("first/s0").complete()
    path = write_run_report(run.path)
    assert path == run.path / "report.html"
    page = Page(path)
    assert check_one_file(page) == []
    for words in (
        "first/s0 done",
        "top-1 50.0%",
        "chance, 1 of 3 classes 33.3%",
        "videos scored 3 of 4",
        "coverage 75.0%",
        "Views per video: 10x3 · step 120 · checkpoint last. Videos that could not be decoded count as wrong.",
        "1 of 3 scored videos are wrong",
        "run/<i>sure mistake</i>.mp4 run & jump price $5$ | pay 0.90 0.05",
        "1 training videos could not be decoded and were replaced by others: video reason train/torn.mp4 truncated",
        "1 evaluation videos could not be decoded and count as wrong: video reason walk/broken.mp4 no <video> stream",
        "parameters (M) 35.3",
        "MACs per clip (G) 19.5",
        "8 × 224 × 224",
        'devices ["cpu"]',
    ):
        assert words in page.text or html.unescape(words) in page.text, words
    assert "top-5" not in page.text


def test_a_run_with_several_labels_per_video(make_run):
    run = make_run("first/s0").complete()
    scores = {"views": "10x3", "step": 9, "num_videos": 4, "num_scored": 3, "map": 0.375, "coverage": 0.75}
    run.json("eval/10x3/results.json", scores).json("eval/1x1/results.json", {**scores, "map": 0.25})
    rows = [["class", "videos", "average_precision"], ["walk", 2, "0.9000"], ["run", 3, "0.3000"], ["sit", 0, ""]]
    run.table("eval/10x3/per_class.csv", rows)
    labels = np.array([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])
    np.savez(
        run.path / "eval/10x3/predictions.npz",
        scores=np.full((4, 3), 0.5), labels=labels, scored=np.ones(4, bool), paths=np.array(["a", "b", "c", "d"]),
    )  # fmt: skip
    page = Page(write_run_report(run.path))
    check_one_file(page)
    for words in ("mAP 37.5%", "10x3 37.5 75.0 1x1 25.0 75.0", "run 3 30.0 walk 2 90.0 sit 0", "videos scored 3 of 4"):
        assert words in page.text, words
    for words in ("top-1", "top-5", "chance", "Confusions", "cannot be read", "Not evaluated", "mistakes"):
        assert words not in page.text, words


def test_classes_come_worst_first(make_run):
    text = Page(write_run_report(make_run("first/s0").complete().path)).text
    order = ["run & jump 1 0 0.0", "<b>walk</b> 2 1 50.0", "price $5$ | pay 1 1 100.0"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_whatever_stands_in_the_files_is_text(make_run):
    run = make_run("a<b>/s0").complete().status("FAILED", "<script>alert(2)</script>")
    page = Page(write_run_report(run.path))
    check_one_file(page)
    assert "img" in page.tags
    assert not page.tags & {"b", "script", "video"}
    assert "<script>alert(1)</script>" in page.text
    assert "<script>alert(2)</script>" in page.text


def test_names_that_are_no_utf8_can_be_written(make_run):
    run = make_run("a/s0").complete().json("env.json", {"path": "\udcff.mp4"})
    assert "?.mp4" in Page(write_run_report(run.path)).text


def test_an_empty_folder_has_a_report_and_a_missing_one_an_error(make_run, tmp_path):
    page = Page(write_run_report(make_run("empty/s0").path))
    check_one_file(page)
    assert "Not evaluated yet" in page.text
    assert "Nothing logged yet" in page.text
    with pytest.raises(DataError, match="no such run folder"):
        write_run_report(tmp_path / "nowhere")


FILES = [
    "status.json", "classes.txt", "costs.json", "metrics.jsonl", "config.yaml", "env.json", "contact_sheet.png",
    "bad_videos.csv", "eval/10x3/results.json", "eval/10x3/predictions.npz",
    "eval/10x3/per_class.csv", "eval/10x3/unscored.csv",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_any_file_may_be_missing_torn_or_rubbish(make_run, name):
    fake = make_run("a/s0").complete()
    whole = (fake.path / name).read_bytes()
    # Drawing is what takes the time: only where it is about the files that are drawn.
    for drawn in {"metrics.jsonl", "eval/10x3/predictions.npz"} - {name}:
        (fake.path / drawn).unlink()
    for content in (whole[: len(whole) // 2], b"", b"\xff\0{[,\n" * 5, None):
        if content is None:
            (fake.path / name).unlink()
        else:
            (fake.path / name).write_bytes(content)
        check_one_file(Page(write_run_report(fake.path)))
        write_sweep_report(fake.path.parent, title="t", rows=[{"name": "a", "runs": [fake.path]}])


def test_a_sweep(make_run, tmp_path):
    folder = tmp_path / "sweeps" / "table 2a"
    rows = []
    for name, scores in {"C2D <b>": (0.25, 0.35), "five blocks": (0.60,)}.items():
        runs = [make_run(f"sweeps/table 2a/{name}/s{seed}").complete(top1=top1) for seed, top1 in enumerate(scores)]
        rows.append({"name": name, "runs": [run.path for run in runs], "published": None})
        write_run_report(runs[0].path)
    rows[1]["published"] = (72.7, 90.5)
    rows.append({"name": "lost", "runs": [folder / "lost" / "s0"], "published": None})
    notes = {"Training": "2 epochs <i-from-a-file>", "command": "nlnet sweep sweep=table2a && echo done"}
    path = write_sweep_report(folder, title="Table 2a & more", rows=rows, notes=notes)
    assert path == folder / "report.html"
    page = Page(path)
    links = check_one_file(page)
    assert [unquote(link) for link in links] == ["C2D <b>/s0/report.html", "five blocks/s0/report.html"]
    assert all((folder / unquote(link)).is_file() for link in links)
    for words in (
        "Table 2a & more",
        "C2D <b> 30.0 ± 7.1 – – – 35.3 19.5 50.0 – 75.0 ± 0.0 2 seeds",
        "five blocks 60.0 +30.0 +0.0 to +0.0 1.000 35.3 19.5 50.0 72.7 75.0 1 seed",
        "lost – – – – – – – – – not started",
        "Training: 2 epochs <i-from-a-file>",
        "nlnet sweep sweep=table2a && echo done",
        "Diamond: published.",
        "chance, 33.3%",
    ):
        assert words in page.text, words


def test_the_dots_stand_where_the_numbers_say(make_run, tmp_path):
    runs = [make_run(f"a/s{seed}").status("DONE").results(top1).path for seed, top1 in enumerate((0.40, 0.60))]
    page = Page(write_sweep_report(tmp_path, title="t", rows=[{"name": "a", "runs": runs}]))
    # 50 ± 14.1 is 35.9 to 64.1; a point of air on both sides, and outwards to multiples of five: 30 to 70.
    assert '<span class="mean" style="left:50.0%">' in page.markup
    assert '<span class="seed" style="left:25.0%">' in page.markup
    assert '<span class="seed" style="left:75.0%">' in page.markup
    assert "30%</span><span>70%" in page.markup


def test_the_scale_holds_chance_only_when_it_is_near():
    assert choose_scale([60.0, 66.0], chance=25.0) == (20.0, 70.0)
    assert choose_scale([72.0, 76.0], chance=0.25) == (70.0, 80.0)
    assert choose_scale([0.0, 100.0], chance=None) == (0.0, 100.0)


def test_a_sweep_of_nothing(tmp_path):
    page = Page(write_sweep_report(tmp_path / "new", title="t", rows=[]))
    check_one_file(page)


def test_rows_of_the_same_name_keep_their_own_curves(make_run, tmp_path):
    rows = [{"name": "same", "runs": [make_run(f"{name}/s0").complete().path]} for name in "ab"]
    text = Page(write_sweep_report(tmp_path, title="t", rows=rows)).text
    assert "same (1)" in text
    assert "same (2)" in text


def luminance(colour):
    """Relative luminance after WCAG 2."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_text_and_lines_are_readable_in_light_and_in_dark():
    style = (resources.files("nlnet.report") / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in style.split("@media", 2)[:2])
    assert light.keys() == dark.keys()
    # A picture that stands alone and one in a page have the same colours.
    assert all(light[name] == colour for colour, name in CSS_NAMES.items())
    for colours in (light, dark):
        for name in ("ink", "muted", "link", "good", "bad"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, name
            assert contrast(colours[name], colours["panel"]) >= 4.5, name
        for name in CSS_NAMES.values():
            assert name == "line" or contrast(colours[name], colours["paper"]) >= 3, name
