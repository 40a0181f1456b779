import csv
import io
import math
import re

import pytest

from nlnet.report.seeds import Spread
from nlnet.report.tables import Column, Table, format_number, summarise_runs


def read_csv(table):
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def read_markdown(text):
    """The slow way round: split at bars that are not escaped, then drop the escapes."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line] for line in lines]


@pytest.mark.parametrize(
    ("value", "text"),
    [(35.3, "35.3"), (1.754, "1.75"), (0.02344, "0.0234"), (1234.4, "1234"), (0.0, "0"), (7, "7"), (math.nan, "–")],
)
def test_three_significant_digits_and_never_an_exponent(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.26, "+1.3"), (-1.26, "-1.3"), (-0.04, "+0.0"), (0.0, "+0.0")])
def test_signed_numbers_have_no_negative_zero(value, text):
    assert format_number(value, decimals=1, signed=True) == text


def test_a_mean_comes_with_the_sample_deviation():
    spread = Spread.of([60.0, 62.0, 67.0])
    # Squares of -3, -1, 4 sum to 26; 26 / 2 = 13.
    assert spread == Spread(63.0, pytest.approx(math.sqrt(13)))
    assert Column("top-1", "%", 1).show(spread) == "63.0 ± 3.6"


def test_a_single_seed_is_just_the_number():
    assert Column("top-1", "%", 1).show(Spread.of([60.0])) == "60.0"
    assert Spread.of([]) is None


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        Table(["a", "b"], [["1", "2"], ["1"]])


AWKWARD = ["a|b", "back\\slash", "*bold* `code`", "<b>", "two\nlines", "[link](x)", "", "数字"]


def test_markdown_gives_the_text_back():
    table = Table(["name", "x|y"], [[text, "v"] for text in AWKWARD])
    header, rule, *rows = read_markdown(table.to_markdown())
    assert header == ["name", "x|y"]
    assert rule == ["---", "---"]
    assert [row[0] for row in rows] == [" ".join(text.split()) for text in AWKWARD]


def test_markdown_aligns_numbers_and_sets_the_best_bold():
    table = Table(["name", Column("top-1", "%", 1)], [["a", 1.0], ["b", None]], bold=frozenset({(0, 1)}))
    assert table.to_markdown() == "| name | top-1 (%) |\n| --- | ---: |\n| a | **1.0** |\n| b | – |\n"


def test_csv_gives_text_and_full_numbers_back():
    rows = [[text, 100 * 0.571, Spread.of([1.0, 2.0])] for text in AWKWARD]
    records = read_csv(Table(["name", Column("share", "%", 1), Column("top-1", "%", 1)], rows))
    assert [record["name"] for record in records] == AWKWARD
    assert records[0]["share (%)"] == "57.1"
    assert float(records[0]["top-1 (%)"]) == 1.5
    assert float(records[0]["top-1 std (%)"]) == pytest.approx(math.sqrt(0.5))


def test_text_is_aligned_for_wide_characters_too():
    table = Table(["name", Column("params", "M")], [["C2D", 24.3], ["数字", 7], ["bell\a\x1b[2J", None]])
    lines = table.to_text().splitlines()
    assert lines[:4] == [
        "name       params (M)",
        "---------  ----------",
        "C2D              24.3",
        "数字                7",
    ]
    # What would move the cursor is replaced.
    assert "\x1b" not in lines[4]
    assert "\a" not in lines[4]


def test_html_is_escaped_and_links_are_addresses_only():
    table = Table(["<i>"], [["<b>x</b>"]])
    markup = table.to_html(links={(0, 0): 's0/"report".html'})
    assert "&lt;i&gt;" in markup
    assert '<a href="s0/&quot;report&quot;.html">&lt;b&gt;x&lt;/b&gt;</a>' in markup
    assert "<b>" not in markup


@pytest.fixture
def sweep(make_run):
    """C2D: 50 and 60; with blocks: 70, 74 and one failure, published; a row that never started."""
    many = [f"class {index}" for index in range(10)]

    def run(name):
        return make_run(name).classes(many).costs()

    first = [run("c2d/s0").status("DONE").results(0.50, top5=0.8), run("c2d/s1").status("DONE").results(0.60, top5=0.9)]
    second = [
        run("nl/s0").status("DONE").results(0.70),
        run("nl/s1").status("DONE").results(0.74),
        run("nl/s2").status("FAILED", "diverged"),
    ]
    return [
        {"name": "C2D", "runs": [item.path for item in first], "published": None},
        {"name": "five blocks", "runs": [str(item.path) for item in second], "published": (73.8, 91.0)},
        {"name": "never", "runs": [first[0].path.parent / "s7"]},
    ]


def test_the_comparison_has_the_numbers_one_computes_by_hand(sweep):
    table = summarise_runs(sweep)
    assert read_markdown(table.to_markdown())[0] == [
        "name", "top-1 (%)", "top-5 (%)", "Δ top-1 (points)", "params (M)", "MACs (G)",
        "published top-1 (%)", "published top-5 (%)", "seeds",
    ]  # fmt: skip
    first, second, third = read_markdown(table.to_markdown())[2:]
    assert first == ["C2D", "55.0 ± 7.1", "85.0 ± 7.1", "–", "35.3", "19.5", "–", "–", "2 seeds"]
    assert second == [
        "five blocks", "**72.0 ± 2.8**", "100.0 ± 0.0", "+17.0", "35.3", "19.5", "73.8", "91.0",
        "2 of 3 seeds (1 failed)",
    ]  # fmt: skip
    assert third == ["never", "–", "–", "–", "–", "–", "–", "–", "not started"]
    assert float(read_csv(table)[0]["top-1 std (%)"]) == pytest.approx(math.sqrt(50))


def test_columns_that_say_nothing_are_left_out(make_run):
    run = make_run("a/s0").classes().status("DONE").results(0.5)
    table = summarise_runs([{"name": "a", "runs": [run.path]}])
    headings = list(read_csv(table)[0])
    assert headings == ["name", "top-1 (%)", "Δ top-1 (points)", "params (M)", "MACs (G)", "seeds"]
    assert table.bold == frozenset()


def test_coverage_stands_beside_the_score_when_videos_are_missing(make_run):
    run = make_run("a/s0").status("DONE").results(0.5, coverage=0.75)
    assert read_csv(summarise_runs([{"name": "a", "runs": [run.path]}]))[0]["coverage (%)"] == "75"


def test_rows_are_compared_on_views_that_all_have(make_run):
    full = make_run("a/s0").status("DONE").results(0.9, views="10x3").results(0.5, views="1x1")
    centre = make_run("b/s0").status("DONE").results(0.6, views="1x1")
    records = read_csv(summarise_runs([{"name": "a", "runs": [full.path]}, {"name": "b", "runs": [centre.path]}]))
    assert [record["top-1 (%)"] for record in records] == ["50", "60"]
    assert "views" not in records[0]


def test_rows_on_different_views_say_so(make_run):
    rows = [
        {"name": views, "runs": [make_run(f"{views}/s0").status("DONE").results(0.5, views=views).path]}
        for views in ("10x3", "1x1")
    ]
    assert [record["views"] for record in read_csv(summarise_runs(rows))] == ["10x3", "1x1"]


def test_an_evaluation_of_a_run_that_is_not_done_does_not_count(make_run):
    run = make_run("a/s0").status("RUNNING").results(0.5)
    record = read_csv(summarise_runs([{"name": "a", "runs": [run.path]}]))[0]
    assert (record["top-1 (%)"], record["seeds"]) == ("", "running")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"top1": NaN}', '{"top1": "high"}', '{"top1": null}', "\0\0\0"])
def test_a_broken_result_is_not_evaluated(make_run, text):
    run = make_run("a/s0").status("DONE").text("eval/10x3/results.json", text).text("costs.json", text)
    assert read_csv(summarise_runs([{"name": "a", "runs": [run.path]}]))[0]["seeds"] == "not evaluated"


def test_no_rows_at_all():
    assert summarise_runs([]).rows == []
    assert summarise_runs([{"name": "a", "runs": []}]).rows[0][-1] == "not started"


def test_small_probabilities_are_below_a_bound_and_negative_numbers_are_themselves():
    assert Column("p", decimals=3, least=0.001).show(0.0002) == "<0.001"
    assert Column("Δ", decimals=1, signed=True).show(-2.44) == "-2.4"
    assert Column("Δ", decimals=1, least=0.001).show(-1.0) == "-1.0"
