"""The benchmarks run and report what they measured; figures themselves are for docs/performance.md."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nlnet.benchmark import BENCHMARKS, tables
from nlnet.benchmark.block import FORMS, Place, make_step
from nlnet.benchmark.machine import matrix_rate
from nlnet.benchmark.networks import Network
from nlnet.benchmark.peaks import peak_memory
from nlnet.benchmark.plan import Plan
from nlnet.benchmark.timing import Timing, interleaved
from nlnet.cli import run
from nlnet.models.cost import layer_multiply_adds, multiply_adds

TINY = ["model=c2d_tiny", "model/placement=tiny"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate of the machine does not matter here."""
    monkeypatch.setattr("nlnet.benchmark.machine.SIZES", {"cpu": 64, "cuda": 64})


def measured(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The JSON of a benchmark."""
    path = tmp_path / "out" / "found.json"
    assert run("benchmark", [*arguments, "--json", str(path)]) == 0
    facts = json.loads(path.read_text(encoding="utf-8"))
    assert facts["benchmark"] == arguments[0]
    assert facts["machine"]["torch"] == torch.__version__
    assert facts["machine"]["processor"]
    found: dict[str, Any] = facts
    return found


def test_turns_alternate() -> None:
    order: list[str] = []
    timings = interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, turns=3, device=CPU, least_s=0.0
    )
    assert order == [*("aabb"), *("ab" * 3)]  # warm-up and a first timing of each, then turns
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]


def test_ratios_are_of_pairs_of_turns() -> None:
    ratio = Timing([2.0, 9.0, 4.0]).ratio(Timing([1.0, 3.0, 2.0]))
    assert ratio.values == [2.0, 3.0, 2.0]
    assert str(ratio) == "2.00 (2.00–3.00)"


def allocates(megabytes: int) -> Any:
    held = torch.ones(2**20)
    return lambda: torch.ones(megabytes * 2**18).sum() + held[0]


def test_peaks_are_of_the_steps_alone() -> None:
    from functools import partial

    small, large = (peak_memory(partial(allocates, size), steps=2, device=CPU).growth for size in (100, 300))
    assert small == pytest.approx(100 * 2**20, abs=20 * 2**20)
    assert large - small == pytest.approx(200 * 2**20, abs=20 * 2**20)


def test_matrix_rate_counts_multiply_adds() -> None:
    assert matrix_rate(torch.float32, CPU) > 1e6


def test_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--crop", "32", "--frames", "4", "--turns", "2", "--precision", "fp32,bf16", "--batch", "2"]
    facts = measured(tmp_path, "layers", "model=i3d_tiny", "model/placement=tiny", *options)
    halves = [[r for r in facts["records"] if r["precision"] == precision] for precision in ("fp32", "bf16")]
    for records in halves:
        *parts, whole = records
        kinds = {(r["part"], r["kind"]): r["number"] for r in parts}
        assert kinds[("stem", "max pool")] == kinds[("stem", "batch norm")] == 1
        assert sum(number for (_, kind), number in kinds.items() if kind == "non-local blocks") == 1
        network = Network(("model=i3d_tiny", "model/placement=tiny"), frames=4, crop=32)
        model = network.model("meta")
        outside = model.get_submodule("head").get_parameter("weight").numel()  # the classifier is no layer here
        counted = 2 * (3 * (multiply_adds(model, network.clip) - outside))
        first = layer_multiply_adds(model.get_submodule("stem.conv"), (2, 3, 4, 32, 32))
        assert whole["macs"] == counted - first
        assert all(second > 0 for r in records for second in (*r["seconds"]["ours"], *r["seconds"]["textbook"]))
    assert "the whole step" in capsys.readouterr().out


def test_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--crop", "32", "--frames", "4", "--turns", "2", "--precision", "fp32,bf16", "--no-memory", "--markdown"]
    facts = measured(tmp_path, "model", *TINY, *options)
    assert [(r["task"], r["precision"], len(r["ratio"])) for r in facts["records"]] == [
        (task, precision, 2) for task in ("train", "inference") for precision in ("fp32", "bf16")
    ]
    assert "| train | bf16 |" in capsys.readouterr().out
    train, _, inference, _ = facts["records"]
    assert train["macs"] == 3 * inference["macs"] > 0


def test_blocks(tmp_path: Path) -> None:
    facts = measured(tmp_path, "block", "--stage", "res5", "--frames", "1", "--turns", "2", "--no-memory")
    assert [record["form"] for record in facts["records"]] == list(FORMS)
    assert [record["against"] for record in facts["records"]] == [*("textbook",) * 3, "broadcast"]
    assert facts["records"][0]["positions"] == 49


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("whose", ["ours", "textbook", "broadcast"])
def test_a_step_of_a_block_has_gradients(whose: Any, precision: Any) -> None:
    make_step("concatenation", Place("res5", 2, pooled=True), whose, precision=precision, device="cpu")()


def test_training(tmp_path: Path, small: list[str]) -> None:
    facts = measured(tmp_path, "train", *small, "--steps", "2", "--turns", "2", "--warm-up", "1")
    assert all(0 <= record["data_share"] <= 1 < record["clips_per_second"] for record in facts["records"])
    assert not (tmp_path / "runs").exists()


def test_memory(tmp_path: Path) -> None:
    facts = measured(tmp_path, "memory", *TINY, "--crop", "64", "--batch", "2", "4")
    two, four = facts["records"]
    assert two["estimate"] < four["estimate"]
    assert two["measured"] is None


def test_the_tables_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "NETWORKS", {"tiny": (*TINY, "data.clip.frames=2", "data.augment.crop=32")})
    monkeypatch.setattr(tables, "MEMORY", [])
    facts = measured(tmp_path, "tables", "--part", "networks", "--part", "memory", "--turns", "1")
    assert {record["part"] for record in facts["records"]} == {"networks"}
    assert len(facts["records"]) == 4


def test_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("benchmark", ["block", "--form", "concatenation", "--pairs", "--frames", "8"]) == 2
    assert "tensor at res3 T=8 has 19 GiB" in capsys.readouterr().err
    for arguments in (["nothing"], ["model", "--precision", "int8"], ["block", "--batch", "0"]):
        assert run("benchmark", arguments) == 2
    assert run("benchmark", ["cost", "model.dropot=1"]) == 2


def test_every_benchmark_is_a_module_with_options_and_run() -> None:
    from importlib import import_module

    for name in BENCHMARKS:
        module = import_module(f"nlnet.benchmark.{name}")
        assert module.__doc__
        assert callable(module.add_options)
        assert callable(module.run)


def test_a_plan_adds_up(small: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert Plan(10, 2.0, 3, 5.0, 7.0, 1.0).total_s == 20 + 15 + 7 + 1
    assert run("train", [*small, f"runs={tmp_path}", "--plan"]) == 0
    memory, time = capsys.readouterr().out.splitlines()
    assert memory.startswith("peak memory of training about ")
    assert time.startswith("time about 0:")
    assert "16 steps" in time  # 4 epochs of 24 videos by 6
    assert "4 validations" in time
    assert not list(tmp_path.iterdir())
