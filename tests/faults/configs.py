"""Wrong configs and command lines, each with what its refusal must say. Data for the tests and for ``scripts/faults``.

Every one is refused in one line that names the key and the mend, before anything is made: no data, no run folder.
"""

import contextlib
import io
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from nlnet import cli, distributed
from nlnet.config.compose import check, compose, flat, plain
from nlnet.errors import ConfigError
from nlnet.models import batch_norm
from tests.conftest import SMALL, write_clip


@dataclass(frozen=True)
class Mutation:
    """A command line, beside the overrides that make it a small and right one, and what its refusal must contain."""

    name: str
    arguments: Sequence[str]
    says: Sequence[str]
    verb: str = "train"
    processes: int = 1


def _overrides(*table: tuple[str, str, *tuple[str, ...]]) -> list[Mutation]:
    """Rows of a name, overrides parted by spaces, and what the refusal says."""
    return [Mutation(name, overrides.split(" "), says) for name, overrides, *says in table]


TYPES = _overrides(
    ("a fraction of a batch", "trainer.batch_size=16.5", "trainer.batch_size", "whole number", "16.5"),
    ("a batch in words", "trainer.batch_size=sixteen", "trainer.batch_size", "whole number", "sixteen"),
    ("a list of epochs", "trainer.epochs=[1,2]", "trainer.epochs", "number"),
    ("no epochs", "trainer.epochs=null", "trainer.epochs", "number"),
    ("epochs that are no number", "trainer.epochs=nan", "trainer.epochs", "number"),
    ("endless epochs", "trainer.epochs=inf", "trainer.epochs", "number"),
    ("a learning rate in words", "optim.lr=fast", "optim.lr", "number", "fast"),
    ("a fractional seed", "seed=1.5", "seed", "whole number"),
    ("workers in words", "workers=four", "workers", "whole number", "auto"),
    ("tensorboard by number", "tensorboard=3", "tensorboard", "true or false"),
    ("Nesterov by number", "optim.nesterov=1", "optim.nesterov", "true or false"),
    ("one short side", "data.augment.short_side=32", "data.augment.short_side", "list"),
    ("a short side in words", "data.augment.short_side=[32,big]", "data.augment.short_side", "whole number"),
    ("a part to freeze, not a list", "init.freeze=res2", "init.freeze", "list"),
    ("a stride, not three", "model.stem.stride=2", "model.stem.stride", "list"),
    ("two strides, not three", "model.stem.stride=[1,2]", "model.stem", "three numbers"),
    ("a placement by its name alone", "model.placement=five", "model.placement", "model/placement=five"),
    ("views by their name alone", "data.views=10x3", "data.views", "data/views=10x3"),
    ("a loss by its name alone", "trainer.loss=cross_entropy", "trainer.loss", "trainer/loss=cross_entropy"),
    ("a block that is a number", "model.non_local=5", "model.non_local", "group of keys"),
    ("two means", "data.normalize.mean=[0.4,0.4]", "data.normalize", "three means"),
)
RANGES = _overrides(
    ("no batch", "trainer.batch_size=0", "trainer.batch_size must be above 0"),
    ("an average of everything", "trainer.ema=1.0", "trainer.ema", "0.9999", "null"),
    ("negative epochs", "trainer.epochs=-3", "trainer.epochs must be above 0"),
    ("no micro-batches", "trainer.accumulate=0", "trainer.accumulate must be above 0"),
    ("a line every 0 steps", "trainer.log_every=0", "trainer.log_every must be above 0"),
    ("a validation every 0 epochs", "trainer.validate_every=0", "trainer.validate_every must be above 0"),
    ("checkpoints backwards", "trainer.checkpoint_every=-1", "trainer.checkpoint_every must be above 0"),
    ("precise statistics of 0 batches", "trainer.precise_bn=0", "trainer.precise_bn", "null"),
    ("gradients clipped to nothing", "trainer.clip_gradient=0", "trainer.clip_gradient", "null"),
    ("a negative learning rate", "optim.lr=-0.1", "optim.lr=-0.1", "at least 0"),
    ("a negative weight decay", "optim.weight_decay=-1", "optim.weight_decay=-1", "at least 0"),
    ("momentum of 1", "optim.momentum=1", "optim.momentum=1", "0.9"),
    ("Nesterov without momentum", "optim.momentum=0", "optim.nesterov=false"),
    ("a learning rate for 0 clips", "optim.reference_batch=0", "optim.reference_batch=0", "null"),
    ("a negative seed", "seed=-1", "seed=-1", "at least 0"),
    ("negative workers", "workers=-1", "workers=-1", "at least 0"),
    ("keep no checkpoint", "keep_checkpoints=0", "keep_checkpoints=0", "at least 1"),
    ("more bad videos than all", "data.max_bad_fraction=1.5", "data.max_bad_fraction=1.5", "at most 1"),
    ("negative bad videos", "data.max_bad_fraction=-0.1", "data.max_bad_fraction=-0.1", "at least 0"),
    ("a clip of no frames", "data.clip.frames=0", "data.clip", "at least 1"),
    ("frames that stand still", "data.clip.stride=0", "data.clip", "at least 1"),
    ("no clips in a test", "data.views.clips=0", "data.views.clips", "at least 1"),
    ("flips more often than always", "data.augment.flip=1.5", "data.augment.flip", "between 0 and 1"),
    ("dropout of everything", "model.dropout=1.0", "model.dropout=1.0", "[0, 1)"),
    ("all labels smoothed away", "trainer.loss.label_smoothing=1.0", "trainer.loss.label_smoothing", "[0, 1)"),
    ("all videos for validation", "data.annotations.val_fraction=1.5", "data.annotations.val_fraction", "0 and 1"),
    ("a deviation of 0", "data.normalize.std=[0.2,0.2,0]", "data.normalize", "positive"),
    ("an endless warm-up", "schedule.warmup=5", "schedule.warmup", "fraction of the run"),
    ("steps by epoch", "schedule=step schedule.milestones=[40,80]", "schedule.milestones", "fractions"),
    ("steps that fall", "schedule=step schedule.milestones=[0.8,0.4]", "schedule.milestones", "rising"),
    ("a learning rate that turns negative", "schedule=step schedule.gamma=-0.1", "schedule.gamma", "at least 0"),
    ("an empty name", "name=", "name=", "auto"),
)
OPTIONS = _overrides(
    ("an unknown model", "model=c2d_r5", "model=c2d_r5: no such option", "c2d_r50"),
    ("an unknown data set", "data=kinetic400", "data=kinetic400: no such option", "kinetics400"),
    ("an unknown optimiser", "optim=adam", "optim=adam: no such option", "sgd"),
    ("an unknown schedule", "schedule=poly", "schedule=poly: no such option", "cosine"),
    ("an unknown placement", "model/placement=fife", "model/placement=fife: no such option", "five"),
    ("an unknown pairwise function", "model/non_local=gausian", "model/non_local=gausian: no such", "gaussian"),
    ("unknown views", "data/views=10x4", "data/views=10x4: no such option", "10x3"),
    ("an unknown clip", "data/clip=8x9", "data/clip=8x9: no such option", "8x8"),
    ("an unknown decoder", "data/decoder=ffmpeg", "data/decoder=ffmpeg: no such option", "pyav"),
    ("an unknown loss", "trainer/loss=mse", "trainer/loss=mse: no such option", "cross_entropy"),
    ("an unknown experiment", "experiment=i3d", "experiment=i3d: no such option", "i3d_r50_8x8"),
    ("an unknown batch norm", "batch_norm=sync", "batch_norm=sync: no such option", "synchronised"),
    ("an unknown preset", "compat=caffe", "compat=caffe: no such option", "authors"),
    ("an unknown precision", "trainer.precision=fp23", "trainer.precision", "fp32, bf16, fp16", "did you mean"),
    ("an unknown device", "device=gpu", "device", "auto, cpu, cuda", "gpu"),
    ("unknown axes", "model.non_local.axes=spacetim", "model.non_local.axes", "did you mean 'spacetime'"),
    ("an unknown inflation", "model.inflation=3x1", "model.inflation", "3x1x1", "3x3x3"),
    (
        "an option that the pairwise function has not",
        "+model.non_local.pairwise.temperature=2",
        "temperature",
        "no such",
    ),
    ("a class that is not there", "model._target_=nlnet.models.resnet.VideoResnet", "model._target_", "VideoResnet"),
)
COMBINATIONS = _overrides(
    (
        "a block behind a block that is not there",
        "model/placement=five ++model.placement.11={res3:[9]}",
        "res3: block 9",
        "0 to",
    ),
    ("blocks in a stage that is not there", "++model.placement.11={res7:[0]}", "model.placement", "res7", "stages"),
    ("a placement for another depth", "model/placement=ten", "depth", "model/placement=none"),
    ("a crop larger than the short side", "data.augment.crop=99", "crop=99", "short side 32"),
    (
        "a test crop larger than the short side",
        "data/views/crops=ten_224 data.views.crops.short_side=128",
        "size",
        "128",
    ),
    (
        "short sides the wrong way round",
        "data.augment.short_side=[36,32]",
        "data.augment.short_side",
        "smallest, largest",
    ),
    (
        "frames of which the strides leave nothing",
        "model=c2d_r50 model/init=scratch data.clip.frames=1",
        "data.clip.frames=1",
        "frames do",
    ),
    (
        "a stride of time longer than the clip",
        "model.stem.pool_kernel=[8,1,1] model.stem.pool_stride=[8,1,1] model.stem.pool_padding=[0,0,0]",
        "data.clip.frames=4",
        "stem.pool",
        "8 frames do",
    ),
    (
        "a pool larger than the picture",
        "model.stem.pool_kernel=[1,30,30] model.stem.pool_padding=[0,0,0]",
        "stem.pool",
        "pixels do",
    ),
    (
        "frames that groups do not divide",
        "model/placement=small +model.stages.res3.non_local_groups=3",
        "groups of equal length",
        "data",
    ),
    ("an even temporal kernel", "++model.temporal_kernels.res2=[2]", "model.temporal_kernels.res2", "odd"),
    (
        "kernels for more blocks than there are",
        "++model.temporal_kernels.res2=[3,3,3,3,3]",
        "model.temporal_kernels.res2",
        "entries",
    ),
    (
        "kernels of a stage that is not there",
        "++model.temporal_kernels.res9=[3]",
        "model.temporal_kernels.res9",
        "res2",
    ),
    ("a bottleneck of a fraction of a channel", "model.stages.res2.channels=30", "model.stages.res2", "multiple of 4"),
    ("a stage without blocks", "model.stages.res2.blocks=0", "model.stages.res2", "at least 1"),
    (
        "windows of a test without positions",
        "data/views=fcn data.views.pooling.window=0",
        "data.views.pooling.window",
        "at least 1",
    ),
    ("a frozen stage that is not there", "init.freeze=[res9]", "init.freeze", "res9", "stem, res2"),
    ("half precision of tests on a CPU", "data.views.precision=fp16", "data.views.precision=fp16", "bf16"),
    ("half precision on a CPU", "trainer.precision=fp16", "trainer.precision=fp16", "bf16"),
    (
        "micro-batches that do not divide the batch",
        "trainer.accumulate=4",
        "trainer.batch_size=6",
        "multiple",
        "set trainer.batch_size=4",
    ),
    (
        "a loss for several labels on one label",
        "trainer/loss=binary_cross_entropy",
        "one label",
        "trainer/loss=cross_entropy",
    ),
    ("a checkpoint that is not there", "init=checkpoint init.path=nothing.pt", "nothing.pt: no such checkpoint"),
    ("no checkpoint named", "init=checkpoint", "init.path is needed", "init.path="),
    ("a folder without a checkpoint", "init=checkpoint init.path=.", "no checkpoint in this folder", "runs/NAME/s0"),
    (
        "weights that are not there",
        "model/init=imagenet model.init.weights=no/resnet.pth",
        "model.init.weights=no/resnet.pth",
        "no such file",
    ),
    ("no videos there", "data.root=/nowhere/at/all", "/nowhere/at/all: no such folder"),
    ("a run folder that is a file", "runs=/dev/null", "/dev/null", "runs="),
)
LINES = [
    Mutation("an unknown verb", [], ["'trian': no such verb", "did you mean 'train'?"], verb="trian"),
    Mutation("a verb like no other", [], ["'xyz': no such verb", "train, test"], verb="xyz"),
    Mutation("an option with dashes", ["--lr=0.1"], ["--lr", "without dashes", "optim.lr"]),
    Mutation("an option with a typo", ["--config-dri", "x"], ["--config-dri", "did you mean '--config-dir'?"]),
    Mutation(
        "a folder of configs that is not there", ["--config-dir", "/no/configs"], ["/no/configs", "no such folder"]
    ),
    Mutation("no equals sign", ["trainer.epochs", "5"], ["trainer.epochs", "key=value"]),
    Mutation("a space around the equals sign", ["trainer.epochs= 5x y"], ["trainer.epochs"]),
    Mutation("a list that is not closed", ["init.freeze=[res2"], ["init.freeze=[res2", "quote"]),
    Mutation("several values", ["optim.lr=0.1,0.2"], ["'optim.lr=0.1,0.2'", "one value", "docs/sweeps.md"]),
    Mutation("a key without a value", ["=5"], ["=5", "key=value"]),
    Mutation("a key that is added twice", ["+trainer.epochs=5"], ["trainer.epochs", "without the +"]),
    Mutation(
        "a key that is not there taken away", ["~trainer.epoch"], ["trainer.epoch", "did you mean 'trainer.epochs'"]
    ),
    Mutation("an interpolation of nothing", ["seed=${sead}"], ["seed", "sead"]),
    Mutation("no root", ["data.root=???"], ["data.root is needed: give data.root="]),
    Mutation(
        "a batch that two processes cannot share",
        ["trainer.batch_size=7"],
        ["trainer.batch_size=7", "multiple", "set trainer.batch_size=6"],
        processes=2,
    ),
    Mutation(
        "more processes than clips",
        ["trainer.batch_size=2"],
        ["trainer.batch_size=2", "set trainer.batch_size=4"],
        processes=4,
    ),
    Mutation(
        "synchronised batch norm on CPUs",
        ["batch_norm=synchronised"],
        ["batch_norm=synchronised", "batch_norm=normal"],
        processes=2,
    ),
    Mutation("no verb to launch", ["local"], ["what is to be started?", "train"], verb="launch"),
    Mutation("an unknown place", ["pbs", "train"], ["pbs", "local", "slurm"], verb="launch"),
    Mutation(
        "a job with a wrong config", ["slurm", "train", "optim.lrr=1"], ["did you mean 'optim.lr'"], verb="launch"
    ),
    Mutation("no nodes", ["slurm", "--nodes", "0", "test", "x"], ["nodes", "at least 1"], verb="launch"),
    Mutation("no checkpoint to test", ["runs/none/s0"], ["runs/none/s0", "no such checkpoint"], verb="test"),
    Mutation("a test of nothing", [], ["required: checkpoint"], verb="test"),
    Mutation("a prediction of nothing", ["mine.pt"], ["required: VIDEO"], verb="predict"),
    Mutation("a table that is not there", ["sweep=table2x"], ["sweep=table2x", "table2a"], verb="sweep"),
    Mutation("no table", [], ["which table?", "table2a"], verb="sweep"),
    Mutation("a wrong key of a table", ["sweep=table2a", "sweep.seed=1"], ["did you mean 'sweep.seeds'"], verb="sweep"),
]
MUTATIONS = [*TYPES, *RANGES, *OPTIONS, *COMBINATIONS, *LINES]


def typo(key: str, generator: random.Random) -> str:
    """A key with one slip in its last part: a letter left out, doubled, or changed places with the next."""
    head, dot, tail = key.rpartition(".")
    place = generator.randrange(1, len(tail) - 1)
    slips = [tail[:place] + tail[place + 1 :], tail[: place + 1] + tail[place:]]
    slips.append(tail[: place - 1] + tail[place] + tail[place - 1] + tail[place + 1 :])
    wrong = next(slip for slip in generator.sample(slips, 3) if slip != tail)
    return head + dot + wrong


def typos(*, every: int = 1) -> Iterator[tuple[str, bool, str]]:
    """Each key of a training config, or one in ``every``, with a typo: the right one must be named.

    As on a command line and as in a YAML file, which reaches ``check`` with the wrong key in it.
    """
    generator = random.Random(0)
    config = compose("train", ["data.root=x"])
    keys = [key for key in flat(plain(config)) if key.rpartition(".")[2][0] != "_" and len(key.rpartition(".")[2]) > 3]
    for key in keys[::every]:
        wrong = typo(key, generator)
        for override in (f"{wrong}=1", f"+{wrong}=1"):
            try:
                check(compose("train", ["data.root=x", override]))
                yield f"typo {override}", False, "accepted"
            except ConfigError as error:
                named = f"'{key}'" in str(error) or f"'{key.rpartition('.')[2]}'" in str(error)
                yield f"typo {override}", named and "\n" not in str(error), str(error)


def attempt(mutation: Mutation, home: Path) -> tuple[str, bool, str]:
    """Runs the command line in ``home``, which has ``videos`` in it -> its name, whether it was refused, what it said.

    Refused: exit code 2, one line with all of ``says`` in it, and nothing made.
    """
    train = [*SMALL, "data.root=videos"] if mutation.verb == "train" else []
    before = sorted(home.rglob("*"))
    said = io.StringIO()
    with (
        contextlib.chdir(home),
        contextlib.redirect_stderr(said),
        mock.patch.object(distributed, "world_size", return_value=mutation.processes),
        mock.patch.object(batch_norm, "world_size", return_value=mutation.processes),
    ):
        try:
            code = cli.main([mutation.verb, *train, *mutation.arguments])
        except (Exception, SystemExit) as error:  # a refusal that a user would see as a traceback
            return mutation.name, False, f"{type(error).__name__}: {error}"
    text = said.getvalue()
    well = code == 2 and text.count("\n") == 1 and all(part in text for part in mutation.says)
    return mutation.name, well and sorted(home.rglob("*")) == before, text.strip()


def make_home(home: Path) -> None:
    """A folder to stand in, with a few videos to train on."""
    for number, name in enumerate(("grass", "sky")):
        for clip in range(3):
            write_clip(home / "videos" / name / f"{clip}.mp4", (60, 90 * number, 60), seed=clip)


def run_all(*, every_typo: int = 1) -> list[tuple[str, bool, str]]:
    """Every mutation: its name, whether it was refused well, and what was said."""
    with tempfile.TemporaryDirectory() as folder:
        make_home(Path(folder))
        return [*(attempt(mutation, Path(folder)) for mutation in MUTATIONS), *typos(every=every_typo)]


if __name__ == "__main__":
    start = time.monotonic()
    results = run_all(every_typo=5)
    for name, survived, message in results:
        print(f"{'      ' if survived else 'WRONG '} {name}: {message}")
    print(f"{sum(survived for _, survived, _ in results)} of {len(results)} in {time.monotonic() - start:.0f} s")
