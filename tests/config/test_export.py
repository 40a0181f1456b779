"""Networks of ours in the names of other projects compute the same there, or are refused with the reason."""

import dataclasses
from pathlib import Path

import pytest
import torch

from nlnet.config.convert import Imported, export_weights, import_weights
from nlnet.errors import CheckpointError, ConfigError
from tests.config.converting import NL, logits_agree, same_bits, saved, write_caffe2, write_torch
from tests.weights import restated
from tests.weights.restated import I3D, Plan, random_state


def test_caffe2_is_written_for_slowfast_to_the_bit(classes: Path, tmp_path: Path) -> None:
    plan = Plan(**NL)
    state = random_state(restated.CAFFE2, plan)
    path = write_caffe2(state, tmp_path / "theirs.pkl")
    ours = saved(import_weights(path, classes=classes, overrides=["compat=authors"]), tmp_path / "ours.pt")
    exported = export_weights(ours, to_format="slowfast")
    same_bits(exported.checkpoint["model_state"], random_state(restated.PYTH, plan))
    assert any("compat=authors" in note and "compat=slowfast" in note for note in exported.notes)


def with_biases(imported: Imported) -> Imported:
    """The same network with random biases in front of W_z's batch norm."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in imported.model.named_parameters():
        if name.endswith(".out.bias"):
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return imported


@pytest.mark.parametrize("form", ["gaussian", "embedded_gaussian", "dot_product", "concatenation"])
def test_the_bias_of_w_z_is_folded_for_mmaction2(form: str, classes: Path, tmp_path: Path) -> None:
    plan = Plan(**NL, form=form, out_bias=False)
    layout = restated.mmaction2(flat=False)
    path = write_torch("state_dict")(random_state(layout, plan), tmp_path / "theirs.pth")
    overrides = [f"model/non_local={form}", "compat.softmax_scale=false", "model.non_local.output.bias=true"]
    imported = import_weights(path, classes=classes, overrides=overrides)
    biases = [tensor for name, tensor in imported.model.state_dict().items() if name.endswith(".out.bias")]
    assert len(biases) == 3
    assert not any(bias.any() for bias in biases)
    ours = saved(with_biases(imported), tmp_path / "ours.pt")
    exported = export_weights(ours, to_format="mmaction2")
    assert any("folded" in note and "res4.nl10" in note for note in exported.notes)
    state = exported.checkpoint["state_dict"]
    assert not any("conv_out.conv.bias" in name for name in state)
    logits_agree(imported, state, layout, plan, restated.MMACTION2)


def test_a_missing_scale_is_folded_for_slowfast(classes: Path, tmp_path: Path) -> None:
    plan = Plan(**NL, out_bias=False)
    path = write_torch("state_dict")(random_state(restated.mmaction2(flat=False), plan), tmp_path / "theirs.pth")
    overrides = ["model/non_local=embedded_gaussian", "compat.softmax_scale=false"]
    imported = import_weights(path, classes=classes, overrides=overrides)
    exported = export_weights(saved(imported, tmp_path / "ours.pt"), to_format="slowfast")
    assert any("θ of res3.nl1, res4.nl0, res4.nl10 times D^0.5" in note for note in exported.notes)
    written = exported.checkpoint["model_state"]
    same_names = {name for name in written if not name.endswith("num_batches_tracked")}
    assert same_names == set(random_state(restated.PYTH, Plan(**NL)))  # with the bias of W_z, which is 0
    rules = dataclasses.replace(restated.MMACTION2, scale=True)
    logits_agree(imported, written, restated.PYTH, plan, rules)


@pytest.mark.parametrize("to_format", ["slowfast", "mmaction2"])
def test_blocks_without_a_norm(to_format: str, classes: Path, tmp_path: Path) -> None:
    plan = Plan(**NL, norm=False)
    path = write_caffe2(random_state(restated.CAFFE2, plan), tmp_path / "long.pkl")
    imported = import_weights(path, classes=classes, overrides=["compat=slowfast"])
    ours = saved(imported, tmp_path / "ours.pt")
    if to_format == "mmaction2":
        with pytest.raises(CheckpointError, match=r"res3\.nl1: its W_z has a bias .* no batch norm behind it to fold"):
            export_weights(ours, to_format=to_format)
        return
    exported = export_weights(ours, to_format=to_format)
    assert any("without batch norm" in note for note in exported.notes)
    state = exported.checkpoint["model_state"]
    with_norm = Plan(**NL)
    assert set(random_state(restated.PYTH, with_norm)) <= set(state)
    logits_agree(imported, state, restated.PYTH, with_norm, restated.SLOWFAST)


def test_zero_biases_without_a_norm_are_written_for_mmaction2(classes: Path, tmp_path: Path) -> None:
    plan = Plan(**NL, norm=False)
    state = random_state(restated.CAFFE2, plan)
    state = {name: torch.zeros_like(t) if name.endswith("_out_b") else t for name, t in state.items()}
    path = write_caffe2(state, tmp_path / "long.pkl")
    overrides = ["compat=mmaction2", "model.non_local.output.norm=false"]
    imported = import_weights(path, classes=classes, overrides=overrides)
    exported = export_weights(saved(imported, tmp_path / "ours.pt"), to_format="mmaction2")
    layout = restated.mmaction2(flat=False)
    written = exported.checkpoint["state_dict"]
    assert set(random_state(layout, Plan(**NL, out_bias=False))) <= set(written)
    logits_agree(imported, written, layout, Plan(**NL, out_bias=False), restated.MMACTION2)


@pytest.mark.parametrize(
    ("form", "overrides", "to_format", "message"),
    [
        ("gaussian", [], "slowfast", "the embedded Gaussian and the dot product; .* are gaussian"),
        ("concatenation", [], "slowfast", "the embedded Gaussian and the dot product; .* are concatenation"),
        ("gaussian", ["model.non_local.axes=space"], "mmaction2", "attend over space only"),
        ("gaussian", ["model.stages.res3.non_local_groups=2"], "mmaction2", "no groups of frames"),
        ("gaussian", [], "caffe2", "no such format to write; there are mmaction2, slowfast"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    form: str, overrides: list[str], to_format: str, message: str, classes: Path, tmp_path: Path
) -> None:
    state = random_state(restated.mmaction2(flat=False), Plan(**NL, form=form, out_bias=False))
    path = write_torch("state_dict")(state, tmp_path / "theirs.pth")
    ours = saved(import_weights(path, classes=classes, overrides=overrides), tmp_path / "ours.pt")
    with pytest.raises((CheckpointError, ConfigError), match=message):
        export_weights(ours, to_format=to_format)


def test_inflation_3x3x3_is_refused_by_slowfast(classes: Path, tmp_path: Path) -> None:
    state = random_state(restated.mmaction2(flat=False), Plan(conv1=5, kernels=I3D, inflated="b"))
    path = write_torch("state_dict")(state, tmp_path / "theirs.pth")
    ours = saved(import_weights(path, classes=classes), tmp_path / "ours.pt")
    with pytest.raises(CheckpointError, match="3x3x3"):
        export_weights(ours, to_format="slowfast")
