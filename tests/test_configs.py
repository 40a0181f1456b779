"""Every option of every config group composes and builds; every experiment trains a step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf

from nlnet.config.compose import build, check, check_targets, compose, flat, group_options, plain, shipped_configs
from nlnet.config.models import build_model
from nlnet.errors import ConfigError
from nlnet.study.sweep import Sweep, plan

GROUPS = sorted(
    {str(path.parent.relative_to(shipped_configs())) for path in shipped_configs().rglob("*.yaml")}
    - {".", "experiment", "sweep", "sweep/launcher"}
)
OPTIONS = [f"{group}={option}" for group in GROUPS for option in group_options(group)]
EXPERIMENTS = group_options("experiment")
SWEEPS = group_options("sweep")
ON_SYNTHETIC = [(name, "synthetic_small") for name in ("table2a", "table2b", "table2c", "table2d")]
BUILT: list[dict[str, Any]] = []  # networks that tables share are built once


def test_the_groups_of_the_tree_are_known() -> None:
    assert {"model", "model/non_local", "model/placement", "data", "data/clip", "data/views", "optim"} <= set(GROUPS)
    assert len(EXPERIMENTS) > 8
    assert {"table2a", "table2b", "table2c", "table2d"} <= set(SWEEPS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(option: str) -> None:
    group = option.partition("=")[0]
    extra = ["init.path=x"] if option == "init=checkpoint" else []
    config = compose("train", ["data.root=x", option, *extra])
    check(config)
    if group == "model" or group.startswith("model/"):
        config.model.init = None
        if option in ("model/placement=local", "model/placement=small", "model/placement=tiny"):
            return  # for the small networks; built with them in the experiments and sweeps
        with torch.device("meta"):
            build_model(config.model, num_classes=5)
    elif group == "data" or group.startswith("data/"):
        for part in ("augment", "pixels", "mix", "order", "views", "validation", "normalize", "decoder"):
            try:
                build(config.data[part])
            except ConfigError as error:  # an optional extra, or what it needs of the system, that is not installed
                if option != "data/decoder=torchcodec" or "pip install nlnet[torchcodec]" not in str(error):
                    raise
                pytest.skip(str(error))
    else:
        for part in ("schedule", "trainer"):
            build(config[part])


def small_clip(config: DictConfig) -> tuple[int, int, int]:
    """Frames, height and width of a clip that the network of an experiment can just do a step with."""
    in_groups = any(stage.get("non_local_groups", 1) > 1 for stage in config.model.stages.values())
    return (32 if in_groups and config.model.stem.stride[0] > 1 else 8), 64, 64


TRAINED: list[Any] = []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_builds_and_each_network_of_them_trains_a_step(experiment: str) -> None:
    config = compose("train", [f"experiment={experiment}", "model/init=scratch", "data.root=x"])
    if OmegaConf.is_missing(config.init, "path"):  # fine-tuning: the weights are the user's
        config.init.path = "x"
    check(config)
    for part in (config.schedule, config.trainer, config.data.augment, config.data.views, config.data.validation):
        build(part)
    if plain(config.model) in TRAINED:
        return
    TRAINED.append(plain(config.model))
    torch.manual_seed(0)
    model, _ = build_model(config.model, num_classes=400)
    model = build(config.batch_norm)(model)
    clips = torch.randint(0, 256, (1, *small_clip(config), 3), dtype=torch.uint8)
    optimizer = build(config.optim)(model, batch_size=64)
    before = model.head.weight.clone()  # type: ignore[union-attr, operator]
    loss = F.cross_entropy(model(build(config.data.normalize)(clips)), torch.tensor([3]))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
    assert not torch.equal(before, model.head.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "experiment"), [*((name, None) for name in SWEEPS), *ON_SYNTHETIC])
def test_every_row_of_every_sweep_builds(name: str, experiment: str | None) -> None:
    node = compose("sweep", [f"sweep={name}"]).sweep
    check_targets(node, "sweep")
    sweep: Sweep = build(node)
    networks = []
    common = [f"experiment={experiment}"] if experiment else []
    for run in plan(replace(sweep, seeds=[0]), Path("sweeps") / name, overrides=[*common, "data.root=x"]):
        config = compose("train", run.overrides)
        check(config)
        config.model.init = None
        networks.append(flat(plain(config.model)))
        if networks[-1] not in BUILT:
            with torch.device("meta"):
                build_model(config.model, num_classes=4)
            BUILT.append(networks[-1])
    assert all(networks.count(network) == 1 for network in networks), "two rows train the same network"


def test_yaml_files_have_no_tabs_and_no_machine_paths() -> None:
    for path in shipped_configs().rglob("*.yaml"):
        text = Path(path).read_text()
        assert "\t" not in text, path
        assert "/home/" not in text, path
