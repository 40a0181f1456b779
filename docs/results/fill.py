"""Puts the tables of docs/results into docs/ablations.md, after scripts/ablate --results: python docs/results/fill.py

A table stands between <!-- NAME --> and <!-- /NAME -->; columns that say nothing new there are left out.
"""

import csv
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "ablations.md"
LEFT_OUT = ("top-5 (%)", "published top-5 (%)", "training (clips/s)", "peak memory (MiB)", "params (M)")
NOT_YET = "*Not run yet.*"


def table(folder: Path) -> str:
    """table.md of a folder without the columns that are left out."""
    if not (folder / "table.md").is_file():
        return NOT_YET
    lines = [re.split(r"(?<!\\) \| ", line.strip("| \n")) for line in (folder / "table.md").read_text().splitlines()]
    keys = [index for index, name in enumerate(lines[0]) if name.startswith("model")]
    left_out = {index for index, name in enumerate(lines[0]) if name in LEFT_OUT} | set(keys)
    kept = [[cell for index, cell in enumerate(line) if index not in left_out] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in kept)


def runs(folder: Path) -> str:
    """How many runs there are of how many."""
    if not (folder / "runs.csv").is_file():
        return ""
    with (folder / "runs.csv").open(encoding="utf-8") as file:
        states = [row["state"] for row in csv.DictReader(file)]
    done = states.count("DONE")
    where = f"[results/{folder.name}](results/{folder.name}/runs.csv)"
    return f"\n\n{done} of {len(states)} runs are done; each run with its folder and config: {where}."


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- (\w+) -->", text):
        filled = f"<!-- {name} -->\n{table(HERE / name)}{runs(HERE / name)}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, new=filled: new, text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")
