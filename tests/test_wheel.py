"""The wheel alone: no checkout, an empty folder, `nlnet demo` and `nlnet train`."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A wheel built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(repository)], check=True, timeout=300)
    return next(folder.glob("nlnet-*.whl"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The ``nlnet`` command of an environment with the wheel, which sees the torch of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    # Paths of a .pth file are appended to sys.path: the wheel comes first, and no other .pth in there is read, so that
    # an editable nlnet stays unseen.
    (Path(site) / "torch_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True, timeout=300)
    return folder / "bin" / "nlnet"


def call(command: Path, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def test_the_wheel_holds_the_package_and_the_configs_and_no_tests(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for source in (repository / "nlnet").rglob("*.py"):
        assert source.relative_to(repository).as_posix() in names
    for source in (repository / "configs").rglob("*.yaml"):
        assert f"nlnet/configs/{source.relative_to(repository / 'configs').as_posix()}" in names
    assert not [name for name in names if name.startswith(("tests", "tools", "configs", "datasets"))]


def test_the_demo_runs_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = call(installed.with_name("python"), "-c", "import nlnet; print(nlnet.__file__)", cwd=tmp_path)
    assert str(installed.parents[1]) in where.stdout
    short = ["trainer.epochs=0.5", "data.prepare.num_train=60", "data.prepare.num_val=20"]
    result = call(installed, "demo", *short, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "C2D" in result.stdout
    assert (tmp_path / "sweeps" / "demo" / "report.html").is_file()
    again = call(installed, "demo", *short, cwd=tmp_path)
    assert again.stderr.count("done before") == 2


def test_training_from_the_wheel_finds_the_users_configs(
    installed: Path, class_folder: Path, small: list[str], tmp_path: Path
) -> None:
    (tmp_path / "configs" / "experiment").mkdir(parents=True)
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntrainer: {loss: {label_smoothing: 0.125}}\n"
    )
    result = call(installed, "train", *small[:-2], "experiment=mine", "trainer.epochs=0.5", small[-1], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "mine" / "s0"
    assert "label_smoothing: 0.125" in (run / "config.yaml").read_text()
    assert (run / "report.html").is_file()
