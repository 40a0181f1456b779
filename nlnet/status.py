"""status.json: what a run folder says of its run, true whatever happens to the processes that write it.

``state`` is DONE, PREEMPTED (asked to stop; the same command goes on), FAILED with its ``reason``, or RUNNING with the
process, host and time that it was written by. A process that is killed cannot write: RUNNING whose lock nobody holds
was cut off.
"""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from nlnet.distributed import is_main, on_main, rank
from nlnet.errors import FolderInUse

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs out of one folder
    fcntl = None  # type: ignore[assignment]

STATUS_FILE = "status.json"
LOCK_FILE = ".lock"


def read_status(folder: Path) -> dict[str, Any]:
    """What status.json says: state, reason, time, pid, host; empty where there is none that can be read."""
    try:
        status = json.loads((folder / STATUS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def read_state(folder: Path) -> str:
    """DONE, PREEMPTED, FAILED or RUNNING; CUT OFF where it says RUNNING and its process is gone; else empty.

    Whether a process of another machine is still there cannot be seen: that is RUNNING.
    """
    status = read_status(folder)
    state = str(status.get("state", ""))
    here = status.get("host") == socket.gethostname()
    return "CUT OFF" if state == "RUNNING" and here and not _holds(folder, status.get("pid")) else state


def write_status(folder: Path, state: str, reason: str = "") -> None:
    """Writes status.json, whole or not at all. A disk that is full is no reason to stop: it is said on the console."""
    status = {
        "state": state,
        "reason": reason,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    unfinished = folder / f".{STATUS_FILE}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / STATUS_FILE)
    except OSError as error:
        print(f"warning: {folder / STATUS_FILE} cannot be written ({error}): {state} {reason}", flush=True)


class RunStatus:
    """The status of one start of a run, on all of its processes.

    The first process that says how it ended is right: those that lose it afterwards have only that to tell.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.claimed = False
        self._lock: int | None = None

    def claim(self) -> str:
        """Takes the folder for this start, on all processes, and returns the state that the last one has left behind.

        From here on the status is RUNNING, unless the run is DONE: then from ``begin`` on.

        Raises:
            FolderInUse: another process trains in this folder.
        """
        before = on_main(self._claim)
        self.claimed = True
        return before

    def _claim(self) -> str:
        before = read_state(self.folder)
        self._take_lock()
        if before != "DONE":
            self.begin()
        return before

    def begin(self) -> None:
        """There is work to do."""
        if is_main():
            write_status(self.folder, "RUNNING")

    def end(self, state: str, reason: str = "") -> None:
        """How it ended. A run that was done before stays so if a later start fails in front of its work.

        What is refused before it has a folder makes none.
        """
        if not self.folder.is_dir():
            return
        now = read_state(self.folder)
        of_this_start = now in ("RUNNING", "CUT OFF") if self.claimed else is_main() and now not in ("DONE", "RUNNING")
        if of_this_start:
            write_status(self.folder, state, reason if is_main() or not reason else f"process {rank()}: {reason}")
        self.release()

    def release(self) -> None:
        """Lets others train in this folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """A lock of the process, that ends with it however it ends, and that its workers do not inherit."""
        if fcntl is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self.release()
            other = read_status(self.folder)
            raise FolderInUse(
                f"{self.folder}: process {other.get('pid', '?')} on {other.get('host', 'another machine')} trains in "
                "this folder; wait for it, end it, or give this run another name (name=…)"
            ) from None
        except OSError:  # a file system without locks
            self.release()


def _holds(folder: Path, pid: object) -> bool:
    """Whether this process of this machine is still there: it has the lock of the folder, or at least exists."""
    if pid == os.getpid() or not isinstance(pid, int):
        return pid == os.getpid()  # closing the file would give up our own lock
    try:
        os.kill(pid, 0)
        if fcntl is not None:
            with (folder / LOCK_FILE).open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False  # another process has this number now
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
