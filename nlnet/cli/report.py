"""``nlnet report FOLDER…``: writes report.html of run folders (again)."""

from collections.abc import Sequence
from pathlib import Path

from nlnet.cli.arguments import Parser
from nlnet.errors import DataError
from nlnet.report.page import write_run_report


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folders, such as runs/NAME/s0")
    for folder in parser.parse_intermixed_args(arguments).folders:
        if not (folder / "config.yaml").is_file():
            raise DataError(f"{folder}: not a run folder (no config.yaml); give one such as runs/NAME/s0")
        print(write_run_report(folder))
    return 0
