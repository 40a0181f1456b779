"""Commands that are killed at a chosen moment, and small videos to prepare."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import write_clip

# Runs a command and ends itself, as kill -9 would, when a function is called for the n-th time.
_FATAL = """
import functools, importlib, os, signal, sys
from nlnet.data.prepare import ledger
ledger._SECONDS = 0
module, names, count = importlib.import_module({module!r}), {name!r}.split("."), {count}
owner = functools.reduce(getattr, names[:-1], module)
original, calls = getattr(owner, names[-1]), 0
def fatal(*arguments, **options):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, names[-1], fatal)
if __name__ == "__main__":
    from nlnet.cli import main
    sys.exit(main({arguments!r}))
"""


def kill_at(function: str, count: int, arguments: Sequence[str], folder: Path) -> None:
    """``nlnet …`` killed at the ``count``-th call of ``function`` (MODULE:NAME); there must be so many."""
    module, _, name = function.partition(":")
    script = folder / "fatal.py"
    script.write_text(_FATAL.format(module=module, name=name, count=count, arguments=[*map(str, arguments)]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, str(script)], env=environment, check=False, timeout=240, capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def contents(folder: Path, *, ignore: Sequence[str] = ()) -> dict[str, bytes]:
    """The files below a folder, but the hidden ones, with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name not in ignore
    }


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six videos, with names that break scripts."""
    root = tmp_path_factory.mktemp("clips")
    for name, colour in (("it's (a) wall", (200, 60, 60)), ("sky", (60, 60, 200))):
        for number in range(6):
            write_clip(root / name / f"-v ü{number}.mp4", colour, seed=number, frames=6)
    return root
