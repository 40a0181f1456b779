"""``nlnet doctor``: what it finds here, and what it says when something is wrong."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from nlnet import doctor
from nlnet.cli import main
from nlnet.doctor import Finding


def found(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_the_packages_it_runs_with_are_named() -> None:
    import torch

    findings = found(doctor.versions())
    assert findings["torch"].found == torch.__version__.partition("+")[0]
    assert not any(finding.fatal for finding in findings.values())


def test_a_missing_package_is_fatal_and_has_a_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: "" if package == "hydra-core" else "1.0")
    findings = found(doctor.versions())
    assert findings["hydra-core"] == Finding("hydra-core", "missing", "pip install hydra-core", fatal=True)
    assert "both are called" in findings["decord"].mend


def test_devices_and_limits() -> None:
    assert "cores for this process" in found(doctor.devices())["CPU"].found
    assert {"memory", "open files", "disk"} <= found(doctor.limits()).keys()


def test_small_limits_have_a_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**26, 0, 2**26))
    findings = found(doctor.limits())
    assert "--shm-size" in findings["/dev/shm"].mend
    assert "runs=" in findings["disk"].mend


def test_decoders_read_back_what_was_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found(doctor.decoders())
    assert findings["decode (pyav)"].found.startswith("works, [3, 64, 64, 3]")

    def broken(self: object, path: str) -> None:
        raise OSError("no codec\nand more")

    monkeypatch.setattr("nlnet.data.decoders.pyav.PyAVDecoder.open", broken)
    failed = found(doctor.decoders())["decode (pyav)"]
    assert failed.found == "fails: OSError: no codec"
    assert failed.fatal


def test_two_processes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding, *_) = doctor.all_reduce()
    assert finding.found.startswith("works"), finding
    monkeypatch.setattr(doctor, "PROBE", "raise ValueError('no way')")
    (finding, *_) = doctor.all_reduce()
    assert finding.mend == "several processes will not work; one will"
    assert "Error" in finding.found

    def no_answer(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("probe", 120)

    monkeypatch.setattr(subprocess, "run", no_answer)
    (finding, *_) = doctor.all_reduce()
    assert "SOCKET_IFNAME" in finding.mend


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = (lambda: iter([Finding("a", "fine"), Finding("b", "bad", "mend it")]),)
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert main(["doctor"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["a", "fine"], ["!", "b", "bad"], ["→", "mend", "it"],
    ]  # fmt: skip
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([Finding("c", "gone", "get it", fatal=True)]),))
    assert main(["doctor", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)[0]["fatal"] is True
