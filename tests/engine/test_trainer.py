"""The training loop: its arithmetic, its step boundaries, and resuming to the bit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nlnet.data.mixing import Mixup, PairMixer
from nlnet.engine.losses import BinaryCrossEntropy, CrossEntropy
from nlnet.engine.settings import Settings
from nlnet.engine.trainer import total_steps
from nlnet.errors import CheckpointError, ConfigError, Diverged, TooManyBadVideos
from nlnet.models.batch_norm import frozen_statistics
from tests.engine.conftest import CLASSES, NUM_VIDEOS, Batch, MakeTrainer, batches, network, to_input


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_a_run_stopped_after_any_step_ends_where_the_unbroken_one_ends(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole")
    whole.fit()
    assert whole.step == whole.steps == 8
    for stop in range(1, whole.steps):
        trainer = make_trainer(f"cut{stop}")

        class Stopped(Exception):
            pass

        def save_and_stop(trainer=trainer, stop=stop) -> None:  # type: ignore[no-untyped-def]
            trainer.files.checkpoints.save(trainer.step, trainer.state_dict())
            if trainer.step == stop:
                raise Stopped

        trainer.due = lambda every: True  # type: ignore[method-assign]
        trainer.save = save_and_stop  # type: ignore[method-assign]
        with pytest.raises(Stopped):
            trainer.fit()
        torch.manual_seed(stop)  # whatever happened in between
        resumed = make_trainer(f"cut{stop}", model=network())
        resumed.fit()
        assert_equal(weights(whole.model), weights(resumed.model))
        assert_equal(
            {str(k): v["momentum_buffer"] for k, v in whole.optimizer.state_dict()["state"].items()},
            {str(k): v["momentum_buffer"] for k, v in resumed.optimizer.state_dict()["state"].items()},
        )


def test_one_step_is_sgd_on_the_mean_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=0.4, model=network(norm=False))
    reference = network(norm=False)
    trainer.fit()
    settings = trainer.settings
    batch = next(batches(0, settings=settings, steps=1))
    loss = F.cross_entropy(reference(to_input(batch.clips)), batch.labels)
    loss.backward()
    lr = 0.5 * 8 / 64 * trainer.schedule(0)
    for new, old in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        gradient = old.grad + 1e-4 * old  # weight decay; the first Nesterov step is 1 + 0.9 times the gradient
        torch.testing.assert_close(new, old - lr * 1.9 * gradient)


def several_labels(labels: Tensor) -> Tensor:
    """[B] -> [B, K]: a clip of class 0 shows nothing, one of class k > 0 the classes 0 to k."""
    classes = torch.arange(CLASSES)
    return ((classes <= labels[:, None]) & (labels[:, None] > 0)).float()


def test_clips_with_several_labels_train_without_a_top1(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(epochs=0.4, model=network(norm=False), loss=BinaryCrossEntropy(), log_every=1)
    reference = network(norm=False)
    single = trainer.data.batches

    def several(*steps: int) -> Iterator[Batch]:
        for batch in single(*steps):
            yield batch._replace(labels=several_labels(batch.labels))

    trainer.data = replace(trainer.data, batches=several)
    trainer.fit()
    batch = next(batches(0, settings=trainer.settings, steps=1))
    loss = F.binary_cross_entropy_with_logits(reference(to_input(batch.clips)), several_labels(batch.labels))
    loss.backward()
    lr = 0.5 * 8 / 64 * trainer.schedule(0)
    for new, old in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(new, old - lr * 1.9 * (old.grad + 1e-4 * old))
    (record,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert record["loss"] == pytest.approx(loss.item())
    assert "top1" not in record
    assert "top-1" not in (tmp_path / "run" / "log.txt").read_text()


def test_mixed_clips_train_towards_mixed_targets(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(epochs=0.4, model=network(norm=False), loss=CrossEntropy(0.1), log_every=1, accumulate=2)
    mixer = PairMixer(Mixup(), seed=3, num_classes=CLASSES)
    trainer.data = replace(trainer.data, mix=mixer)
    reference = network(norm=False)
    trainer.fit()
    batch = next(batches(0, settings=replace(trainer.settings, accumulate=1), steps=1))
    clips, targets = mixer(to_input(batch.clips), batch.labels, range(8))
    logits = reference(clips)
    smooth = 0.9 * targets + 0.1 / CLASSES
    loss = -(smooth * logits.log_softmax(1)).sum(1).mean()
    loss.backward()
    lr = 0.5 * 8 / 64 * trainer.schedule(0)
    for new, old in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(new, old - lr * 1.9 * (old.grad + 1e-4 * old))
    (record,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert record["loss"] == pytest.approx(loss.item())
    shares = [float(row[best]) for row, best in zip(targets, logits.argmax(1), strict=True)]
    assert record["top1"] == pytest.approx(sum(shares) / 8)


def test_what_is_left_to_the_device_is_done_before_normalising(make_trainer: MakeTrainer) -> None:
    plain, inverted = make_trainer("plain", epochs=0.4), make_trainer("inverted", epochs=0.4)
    inverted.data = replace(
        inverted.data, augment=lambda clips, batch: 255 - clips, to_input=lambda c: to_input(255 - c)
    )
    plain.fit()
    inverted.fit()
    assert_equal(weights(plain.model), weights(inverted.model))


def test_accumulation_gives_the_step_of_the_whole_batch(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole", model=network(norm=False))
    parts = make_trainer("parts", model=network(norm=False), accumulate=4)
    whole.fit()
    parts.fit()
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_accumulation_gives_the_step_of_the_whole_batch_with_frozen_batch_norm(make_trainer: MakeTrainer) -> None:
    def frozen() -> torch.nn.Module:
        model = frozen_statistics(network())
        model[3] = torch.nn.Identity()  # dropout drops others in other batches
        return model

    whole, parts = make_trainer("whole", model=frozen()), make_trainer("parts", model=frozen(), accumulate=4)
    whole.fit()
    parts.fit()
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_an_fp16_overflow_is_not_a_step_left_out(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(epochs=2)
    trainer.optimizer.param_groups[0]["fused"] = trainer.optimizer.param_groups[1]["fused"] = None  # as on a GPU
    trainer.optimizer._step_supports_amp_scaling = False
    scaler = trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    first = next(trainer.model.parameters())
    first.register_hook(lambda gradient: gradient * (float("inf") if scaler.get_scale() > 2.0**11 else 1))
    trainer.fit()
    assert scaler.get_scale() == 2.0**11
    assert not (tmp_path / "run" / "nonfinite.jsonl").exists()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_the_last_epoch_may_be_a_part_and_everything_is_due_at_the_end(make_trainer: MakeTrainer) -> None:
    assert total_steps(Settings(epochs=1, batch_size=8), NUM_VIDEOS) == 3
    validated: list[float] = []
    trainer = make_trainer(
        epochs=1,
        validate_every=5,
        validate=lambda: validated.append(1) or dict.fromkeys(("top1", "top5", "loss", "coverage"), 0.5),
    )
    trainer.fit()
    assert len(validated) == 1
    assert trainer.files.checkpoints.newest() is not None
    assert trainer.files.checkpoints.best.is_file()


def test_the_best_validation_is_kept(make_trainer: MakeTrainer) -> None:
    scores = iter([0.2, 0.6, 0.4])
    trainer = make_trainer(
        epochs=1.2, validate_every=0.4, validate=lambda: {"top1": next(scores), "top5": 1, "loss": 0, "coverage": 1}
    )
    trainer.fit()
    assert trainer.best == 0.6
    assert torch.load(trainer.files.checkpoints.best, weights_only=True)["step"] == 2


def test_records_behind_the_checkpoint_are_written_again_once(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer().fit()
    path = tmp_path / "run" / "metrics.jsonl"
    for checkpoint in sorted((tmp_path / "run" / "checkpoints").glob("step_*.pt"))[3:]:
        checkpoint.unlink()
    with path.open("a") as file:
        file.write('{"kind": "train", "st')  # cut off by a kill
    make_trainer().fit()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [2, 4, 6, 8]


def test_a_loss_that_is_not_finite_ends_the_run(make_trainer: MakeTrainer) -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    trainer = make_trainer(model=model, max_nonfinite=2)
    with pytest.raises(Diverged, match="step 2"):
        trainer.fit()
    assert Diverged.exit_code == 3


def test_too_many_bad_videos_end_the_run_and_are_listed(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.files.bad_videos.add([(0, "empty"), (1, "no video")])
    trainer.files.bad_videos.share()  # two of twenty: just allowed
    trainer.files.bad_videos.add([(1, "no video"), (5, "truncated")])
    with pytest.raises(TooManyBadVideos, match="3 of 20"):
        trainer.files.bad_videos.share()
    listed = (tmp_path / "run" / "bad_videos.csv").read_text().splitlines()
    assert listed == ["path,reason", "v0,empty", "v1,no video", "v5,truncated"]


def test_another_run_in_the_folder_is_refused(make_trainer: MakeTrainer) -> None:
    make_trainer().fit()
    other = make_trainer()
    other.files.card["identity"] = "another"
    with pytest.raises(CheckpointError, match="another run"):
        other.fit()


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"batch_size": 0}, {"accumulate": -1}, {"validate_every": 0}],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"trainer.{next(iter(changes))}"):
        Settings(**{"epochs": 1, **changes})  # type: ignore[arg-type]


def test_bf16_trains_and_fp16_on_a_cpu_is_refused(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(precision="bf16", clip_gradient=1.0)
    trainer.fit()
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        make_trainer("half", precision="fp16")


def test_compiling_changes_neither_names_nor_results(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the graphs that torch.compile makes, run as they are: its own code generator takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, compiled = make_trainer("plain", epochs=0.8), make_trainer("compiled", epochs=0.8, compile=True)
    plain.fit()
    compiled.fit()
    assert compiled.replica is not compiled.model
    assert weights(plain.model).keys() == weights(compiled.model).keys()
    for name, tensor in weights(plain.model).items():
        torch.testing.assert_close(weights(compiled.model)[name], tensor, rtol=1e-4, atol=1e-5)


def test_compiling_and_recomputing_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"leave trainer\.recompute"):
        Settings(1, compile=True, recompute=["res2"])
