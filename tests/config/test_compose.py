"""Configs: unknown keys are refused with the nearest right name, and a user's own YAMLs are found."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nlnet.config.compose import build, check, compose, group_options, override_stored, plain
from nlnet.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "did you mean 'optim.lr'"),
        ("+optim.lrr=1", "did you mean 'lr'"),
        ("modle=c2d_r50", "did you mean 'model'"),
        ("model=c2d_r5", "no such option; did you mean 'c2d_r50'.; model has c2d_local"),
        ("model/placement=fife", "five"),
        ("experiment=i3d", "no such option; experiment has c2d"),
        ("trainer.epoch=1", "did you mean 'trainer.epochs'"),
        ("+model.non_local.axis=time", "did you mean 'axes'"),
        ("+data.max_bad=1", "did you mean 'data.max_bad_fraction'"),
        ("+model.stages.res3.block=1", "did you mean 'blocks'"),
        ("model._target_=nlnet.models.resnet.VideoResnet", "model._target_=nlnet.models.resnet.VideoResnet"),
    ],
)
def test_a_wrong_key_is_refused_with_the_right_one(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        check(compose("train", ["data.root=x", override]))


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.root is needed: give data\.root="):
        check(compose("train", []))


def test_a_sweep_knows_its_keys() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'sweep\.seeds'"):
        compose("sweep", ["sweep=table2a", "sweep.seed=1"])


def test_the_name_says_what_runs() -> None:
    assert compose("train", ["data.root=x", "model=i3d_r50", "data=folder"]).name == "i3d_r50-folder"
    assert compose("train", ["data.root=x", "experiment=i3d_r50_8x8"]).name == "i3d_r50_8x8"
    assert compose("train", ["data.root=x", "name=mine"]).name == "mine"


def test_yamls_of_a_user_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (tmp_path / "elsewhere", tmp_path / "here" / "configs"):
        (place / "experiment").mkdir(parents=True)
    mine = "# @package _global_\ndefaults:\n  - override /model: i3d_r101\noptim: {lr: 0.5}\n"
    (tmp_path / "here" / "configs" / "experiment" / "mine.yaml").write_text(mine)
    (tmp_path / "elsewhere" / "experiment" / "other.yaml").write_text(mine.replace("0.5", "0.25"))
    monkeypatch.chdir(tmp_path / "here")
    config = compose("train", ["experiment=mine", "data.root=x"])
    assert config.optim.lr == 0.5
    assert config.model.stages.res4.blocks == 23
    assert compose("train", ["experiment=other"], config_dir=str(tmp_path / "elsewhere")).optim.lr == 0.25
    assert compose("train", ["experiment=mine"], config_dir=str(tmp_path / "elsewhere")).optim.lr == 0.5
    assert "mine" in group_options("experiment")
    with pytest.raises(ConfigError, match="no such folder"):
        compose("train", [], config_dir=str(tmp_path / "nowhere"))


def test_stored_configs_take_values_and_whole_groups() -> None:
    stored = OmegaConf.create(plain(compose("train", ["data.root=x", "data/clip=32x2"])))
    changed = override_stored(stored, ["data/views=fcn", "data.root=/videos", "data.test_short_side=128"])
    assert plain(changed.data.views) == {
        "_target_": "nlnet.data.transforms.EvalViews",
        "precision": "fp32",
        "frames": 32,
        "stride": 2,
        "clips": 10,
        "source": "",
        "placement": {
            "_target_": "nlnet.data.placement.Ends",
            "short": {"_target_": "nlnet.data.placement.loop", "_partial_": True},
        },
        "crops": {"_target_": "nlnet.data.crops.WholeFrame", "short_side": 128},
        "pooling": {"_target_": "nlnet.models.pooling.WindowProbabilities", "window": 7},
        "ensemble": {"_target_": "nlnet.models.ensemble.MeanProbability"},
    }
    changed = override_stored(changed, ["data/views/placement=authors", "data.views.clips=3"])
    assert plain(changed.data.views.placement) == {"_target_": "nlnet.data.placement.Authors"}
    assert (changed.data.views.clips, changed.data.views.pooling.window) == (3, 7)
    assert changed.data.root == "/videos"
    assert stored.data.root == "x"
    with pytest.raises(ConfigError, match=r"did you mean 'data\.root'"):
        override_stored(stored, ["data.rot=1"])


@pytest.mark.parametrize("target", ["os.system", "nlnet.config.runs.open_folder", "nlnet.models.cost.copy.deepcopy"])
def test_what_a_checkpoint_names_is_only_ours(target: str) -> None:
    config = compose("train", ["data.root=x", "model/init=scratch"])
    config.model.non_local.pairwise._target_ = target
    with pytest.raises(ConfigError, match=r"model\.non_local\.pairwise\._target_"):
        check(config, trusted=False)


def test_errors_of_what_is_built_come_through() -> None:
    config = compose("train", ["data.root=x", "data.augment.crop=500"])
    with pytest.raises(ConfigError, match="500"):
        build(config.data.augment)
