"""The reports in a real browser, at the width of a phone and of a screen; skipped where there is no Chromium."""

import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nlnet.report.page import write_run_report, write_sweep_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
WIDTHS = (360, 1280)

# Opens a report in frames of both widths, measures what a person would see, and leaves the findings as text.
CHECK = """<!doctype html><body><pre id="found">nothing</pre><script>
const luminance = c => c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; })
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const paper = (view, node) => { for (; node; node = node.parentElement) {
  const colour = numbers(view.getComputedStyle(node).backgroundColor);
  if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3); } return [255, 255, 255]; };
const measure = frame => { const view = frame.contentWindow, page = frame.contentDocument;
  const found = { width: frame.width, overflow: page.documentElement.scrollWidth - view.innerWidth, text: page.title,
    images: page.images.length, broken: [...page.images].filter(i => !i.naturalWidth).length, pale: [], outside: [] };
  for (const node of page.querySelectorAll("main *")) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || node.closest("svg") || !node.getClientRects().length) continue;
    const style = view.getComputedStyle(node);
    const [a, b] = [luminance(numbers(style.color).slice(0, 3)), luminance(paper(view, node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.pale.push(node.textContent.trim().slice(0, 40));
    if (parseFloat(style.fontSize) < 12) found.pale.push("small: " + node.textContent.trim().slice(0, 40));
    const box = node.getBoundingClientRect();
    if (!node.closest(".scroll") && (box.right > view.innerWidth + 1 || box.left < -1))
      found.outside.push(node.textContent.trim().slice(0, 40));
  }
  for (const drawing of page.querySelectorAll("svg"))
    if (!drawing.closest(".scroll") && drawing.getBoundingClientRect().right > view.innerWidth + 1)
      found.outside.push("a drawing");
  return found; };
const all = [];
for (const width of WIDTHS) { const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800; frame.src = "report.html";
  frame.onload = () => { for (const d of frame.contentDocument.querySelectorAll("details")) d.open = true;
    all.push(measure(frame)); document.getElementById("found").textContent = JSON.stringify(all); };
  document.body.append(frame); }
</script></body>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which this machine alone serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def look_at(report: Path, served: tuple[Path, str], tmp_path: Path) -> list[dict[str, Any]]:
    """What the browser found in a report, for each width."""
    if not BROWSER:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    folder, address = served
    shutil.copy(report, folder / "report.html")
    (folder / "check.html").write_text(CHECK.replace("WIDTHS", json.dumps(WIDTHS)), encoding="utf-8")
    options = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--disable-quic", "--virtual-time-budget=20000"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium will not start as root with it
    command = [BROWSER, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{address}/check.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    match = re.search(r'<pre id="found">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert match, shown.stderr
    found = json.loads(html.unescape(match[1]))
    assert sorted(int(each["width"]) for each in found) == list(WIDTHS)
    return list(found)


def check(found: list[dict[str, Any]], *, images: int) -> None:
    for each in found:
        assert each["overflow"] <= 0, each
        assert each["images"] == images, each
        assert each["broken"] == 0, each
        assert each["pale"] == [], each
        assert each["outside"] == [], each


def test_a_run(make_run: Any, served: tuple[Path, str], tmp_path: Path) -> None:
    run = make_run("a very long name of a run that must be broken somewhere/s0").complete()
    run.json("differences.json", {"model.temporal_kernels.res4": [None, [3, 1, 3, 1, 3, 1]]})
    picture = run.path / "eval/10x3/mistakes/1.png"
    picture.parent.mkdir()
    shutil.copy(run.path / "contact_sheet.png", picture)
    check(look_at(write_run_report(run.path), served, tmp_path), images=2)


def test_a_sweep(make_run: Any, served: tuple[Path, str], tmp_path: Path) -> None:
    rows = []
    for name in ("C2D", "C2D + five non-local blocks with an embedded Gaussian in res3 and res4"):
        runs = [make_run(f"{name[:12]}/s{seed}").complete(top1=0.3 + seed / 10).path for seed in range(3)]
        rows.append({"name": name, "runs": runs, "published": (72.7, 90.5)})
    report = write_sweep_report(tmp_path / "sweep", title="Table 2c", rows=rows, notes={"command": "nlnet " * 40})
    check(look_at(report, served, tmp_path), images=1)


def test_the_check_sees_what_is_wrong(served: tuple[Path, str], tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<title>t</title><main style='width: 2000px'><p style='color: #ccc'>pale</p>"
        "<p style='font-size: 6px'>tiny</p><img src='gone.png'></main>"
    )
    for each in look_at(page, served, tmp_path):
        assert each["overflow"] > 0
        assert each["broken"] == 1
        assert set(each["pale"]) == {"pale", "small: tiny"}
