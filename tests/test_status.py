"""status.json is true whatever happens, and one folder has one process."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from nlnet.errors import FolderInUse
from nlnet.status import RunStatus, read_state, read_status, write_status


def in_a_child(work) -> int:  # type: ignore[no-untyped-def]
    """Runs ``work`` in a forked process -> its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_run_says_how_it_ended(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    status = RunStatus(folder)
    assert status.claim() == ""
    found = read_status(folder)
    assert (found["state"], found["pid"], found["host"]) == ("RUNNING", os.getpid(), socket.gethostname())
    status.end("FAILED", "no room")
    assert (read_status(folder)["state"], read_status(folder)["reason"]) == ("FAILED", "no room")
    status.end("FAILED", "another process is gone")
    assert read_status(folder)["reason"] == "no room", "the first to say is right"


def test_a_run_that_is_done_stays_done(tmp_path: Path) -> None:
    write_status(tmp_path, "DONE")
    RunStatus(tmp_path).end("FAILED", "no data")
    status = RunStatus(tmp_path)
    assert status.claim() == "DONE"
    status.end("FAILED", "no data")
    assert read_state(tmp_path) == "DONE"
    status = RunStatus(tmp_path)
    status.claim()
    status.begin()
    status.end("FAILED", "the test failed")
    assert read_state(tmp_path) == "FAILED"


def test_what_is_refused_makes_no_folder(tmp_path: Path) -> None:
    RunStatus(tmp_path / "run").end("FAILED", "a typo")
    assert not (tmp_path / "run").exists()


def test_a_killed_run_was_cut_off(tmp_path: Path) -> None:
    def work() -> None:
        RunStatus(tmp_path).claim()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(work) == -signal.SIGKILL
    assert read_status(tmp_path)["state"] == "RUNNING"
    assert read_state(tmp_path) == "CUT OFF"
    assert RunStatus(tmp_path).claim() == "CUT OFF"


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    mine = RunStatus(tmp_path)
    mine.claim()

    def other() -> None:
        assert read_state(tmp_path) == "RUNNING"
        with pytest.raises(FolderInUse, match=f"process {mine_pid} on"):
            RunStatus(tmp_path).claim()

    mine_pid = os.getpid()
    assert in_a_child(other) == 0
    mine.end("DONE")
    assert in_a_child(lambda: RunStatus(tmp_path).claim()) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '"RUNNING"', "\x00\x00"])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "status.json").write_text(content)
    assert read_state(tmp_path) == ""


def test_a_process_of_another_machine_may_be_there(tmp_path: Path) -> None:
    write_status(tmp_path, "RUNNING")
    status = {**read_status(tmp_path), "host": "elsewhere", "pid": 1 << 30}
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert read_state(tmp_path) == "RUNNING"
    (tmp_path / "status.json").write_text(json.dumps({**status, "host": socket.gethostname()}))
    assert read_state(tmp_path) == "CUT OFF"
