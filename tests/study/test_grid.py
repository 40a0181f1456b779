"""Grids of the command line, what a sweep's folder remembers, and plans."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nlnet.cli.sweep import main, read
from nlnet.config.compose import compose, plain
from nlnet.config.grid import split_grid
from nlnet.errors import ConfigError
from nlnet.study.sweep import Row, Sweep, expand, plan, recorded, remember
from tests.conftest import SMALL, run_nlnet

TWO = Sweep("Two", {"a": Row("A", ["x=1"]), "b": Row("B", ["x=2"])}, seeds=[0, 1])


def test_hydras_grammar_says_what_is_a_grid() -> None:
    fixed, axes = split_grid(
        ["model/placement=none,five", "optim.lr=0.1", "+k=choice(a,b)", "data.x=[1,2]", "n=range(1,4)", "q='a,b'"]
    )
    assert fixed == ["optim.lr=0.1", "data.x=[1,2]", "q='a,b'"]
    assert axes == {"model/placement": ["none", "five"], "+k": ["a", "b"], "n": ["1", "2", "3"]}
    _, globbed = split_grid(["model/placement=glob(one_*)"])
    assert globbed == {"model/placement": ["one_res2", "one_res3", "one_res4", "one_res5"]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=interval(0,1)", "a grid needs values that can be counted"),
        ("a=1,1", "a value stands there twice"),
        ("model/placement=glob(x*)", "fits no option"),
        ("a=[1", "not an override"),
    ],
)
def test_what_is_no_grid_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_grid([override])


def test_a_grid_is_all_combinations_under_names_of_their_own() -> None:
    sweep, folder, others = read(
        ["model/non_local=gaussian,dot_product", "model/placement=none,five", "seed=0,1,2", "trainer.epochs=2"],
        config_dir=None,
    )
    assert list(sweep.rows) == [
        f"non_local-{form}_placement-{place}" for form in ("gaussian", "dot_product") for place in ("none", "five")
    ]
    assert list(sweep.seeds) == [0, 1, 2]
    assert (folder, others) == (Path("sweeps/non_local_placement"), ["trainer.epochs=2"])
    runs = plan(sweep, folder, overrides=others)
    assert len(runs) == 12
    assert runs[1].overrides == [
        "model/non_local=gaussian", "model/placement=five", "trainer.epochs=2", f"runs={folder}",
        "name=non_local-gaussian_placement-five", "seed=0",
    ]  # fmt: skip


def test_a_grid_multiplies_the_rows_of_a_table() -> None:
    sweep, folder, _ = read(["sweep=table2b", "data/clip=8x8,32x2", "seed=4", "name=mine"], config_dir=None)
    assert len(sweep.rows) == 10
    assert sweep.rows["res2_clip-8x8"].title == "res2, clip=8x8"
    assert (list(sweep.seeds), folder) == ([4], Path("sweeps/mine"))


def test_rows_of_the_same_name_and_a_missing_table_are_refused() -> None:
    with pytest.raises(ConfigError, match="would be called k-a-b"):
        expand(Sweep("t"), {"k": ["a/b", "a:b"]})
    with pytest.raises(ConfigError, match=r"which table\? sweep=NAME"):
        read(["trainer.epochs=2"], config_dir=None)
    with pytest.raises(ConfigError, match="seeds are whole numbers"):
        read(["sweep=table2a", "seed=a,b"], config_dir=None)


def test_tables_with_a_pool_share_their_runs(tmp_path: Path) -> None:
    first, second = (plan(replace(TWO, pool="common"), tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert first[0].folder == tmp_path / "common" / "a" / "s0"
    started = replace(TWO, rows={"a": Row("A", start_from="common/a")})
    assert f"init.path={tmp_path}/common/a/s1" in plan(started, tmp_path / "long")[1].overrides


def test_a_table_keeps_the_rows_and_seeds_that_it_has_had(tmp_path: Path) -> None:
    remember(tmp_path, TWO)
    fewer = replace(TWO, rows={"b": Row("B again", ["x=3"]), "c": Row("C", [])}, seeds=[2])
    whole = remember(tmp_path, fewer)
    assert list(whole.rows) == ["a", "b", "c"]
    assert whole.rows["b"].title == "B again"
    assert list(whole.seeds) == [0, 1, 2]
    assert recorded(tmp_path).rows == whole.rows
    (tmp_path / "sweep.json").write_text("{")
    assert remember(tmp_path, TWO).rows == TWO.rows


def test_another_baseline_in_front_becomes_the_first_row(tmp_path: Path) -> None:
    remember(tmp_path, TWO)
    assert list(remember(tmp_path, replace(TWO, rows={"z": Row("Z", []), **TWO.rows})).rows) == ["z", "a", "b"]


def test_a_plan_has_costs_and_time_and_trains_nothing(class_folder: Path, tmp_path: Path) -> None:
    options = [*SMALL, f"data.root={class_folder}", "trainer.epochs=1"]
    result = run_nlnet("sweep", "model/placement=none,small", "seed=0,1", "--plan", *options, cwd=tmp_path)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "row"
    plain, blocks = lines[2].split(), lines[3].split()
    assert (plain[0], plain[1], plain[4]) == ("placement-none", "2", "4")  # 24 training videos in batches of 6
    assert float(blocks[2]) > float(plain[2])  # parameters
    assert plain[-1] in ("s", "min")
    assert ": 4 of 4 runs to do, 1 side by side; about " in lines[5]
    assert len(lines) == 10
    assert not (tmp_path / "sweeps").exists()


def test_done_runs_of_another_config_are_refused(tmp_path: Path) -> None:
    """A table must not show yesterday's numbers of two epochs as those of twenty."""
    options = [*SMALL, "data.root=videos", "model/placement=none,small"]
    sweep, folder, others = read([*options, f"sweeps={tmp_path}", "trainer.epochs=2"], config_dir=None)
    run = plan(sweep, folder, overrides=others)[0]
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints" / "step_00000001.pt").touch()
    (run.folder / "config.yaml").write_text(yaml.safe_dump(plain(compose("train", run.overrides))))
    (run.folder / "status.json").write_text('{"state": "DONE"}')
    with pytest.raises(ConfigError, match=r"holds another run: trainer.epochs 2 there, 3 here"):
        main([*options, f"sweeps={tmp_path}", "trainer.epochs=3"])
