"""What a benchmark hands back: tables for people, and the numbers they are made of."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nlnet.benchmark.machine import describe
from nlnet.report.tables import Table


@dataclass(frozen=True)
class Report:
    """Titled tables; ``lines`` around them, and ``records``: plain data, a dictionary for each thing measured."""

    tables: Sequence[tuple[str, Table]]
    lines: Sequence[str] = ()
    records: Sequence[dict[str, Any]] = field(default_factory=list)

    def text(self, *, markdown: bool = False) -> str:
        """All of it for people."""
        parts = []
        for title, table in self.tables:
            body = table.to_markdown() if markdown else table.to_text()
            parts.append(f"{title}\n\n{body}" if title else body)
        return "\n".join([*parts, *self.lines]).rstrip("\n")

    def write(self, path: Path, *, name: str, device: torch.device) -> None:
        """The records as JSON, with the command and the machine that they were measured with."""
        facts = {
            "benchmark": name,
            "command": sys.argv,
            "date": time.strftime("%Y-%m-%d"),
            "machine": describe(device),
            "records": list(self.records),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
