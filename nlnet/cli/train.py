"""``nlnet train [overrides]``: a run from its config to its report. The same command again resumes it."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from nlnet import distributed
from nlnet.benchmark.plan import plan
from nlnet.cli.arguments import Parser
from nlnet.config import TrainJob, build_train, compose
from nlnet.config.compose import check
from nlnet.config.train import run_folder
from nlnet.data.annotations import VideoList
from nlnet.data.loader import change_pixels, collate
from nlnet.engine.faults import Watch, write_stacks
from nlnet.engine.memory import ADVICE, available, highest_resident, out_of_memory_explained
from nlnet.engine.predictions import headline
from nlnet.errors import FolderInUse, NlnetError, Preempted, message_of
from nlnet.models import cost
from nlnet.report.contact_sheet import contact_sheet
from nlnet.report.page import write_run_report
from nlnet.status import RunStatus, read_state


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet train", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config overrides, group=option too")
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--plan", action="store_true", help="say what the run needs of memory and time, and stop")
    parser.add_argument("--cfg", choices=["job"], help="print the composed config and stop")
    options = parser.parse_intermixed_args(arguments)
    config = compose("train", options.overrides, config_dir=options.config_dir)
    if options.cfg:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    check(config)
    if options.plan:
        print(say_plan(config))
        return 0
    group = distributed.process_group(distributed.device(config.device), timeout_s=config.start_timeout)
    with group, start_of(config) as (status, watch):
        job = build_train(config, status=status, watch=watch)
        if not distributed.on_main(lambda: finished(job)):
            status.begin()
            train(job)
    return 0


def say_plan(config: DictConfig) -> str:
    """What a run of this config would need, from a probe in one process; no run folder is made.

    Returns:
        A line on memory and one on time.
    """
    with tempfile.TemporaryDirectory(prefix="nlnet-plan-") as folder:
        config.runs = folder
        job = build_train(config)
        memory = memory_line(job)
        with out_of_memory_explained(job.trainer.device):
            return f"{memory}\n{plan(job).line()}"


def train(job: TrainJob) -> None:
    """Trains, and tests the final weights with the chosen views."""
    _say_costs(job)
    if distributed.is_main():
        _write_contact_sheet(job)
    with out_of_memory_explained(job.trainer.device):
        job.trainer.fit()
    _add_peak_memory(job)
    folder = job.folder / "eval" / job.test.views.name
    predictions = job.test(job.model)
    job.log.line(job.test.write(folder, predictions, model=job.model, checkpoint="last", step=job.trainer.step))
    job.log.close()


def finished(job: TrainJob) -> bool:
    """Whether this run is done and tested with these views: the same command again has nothing to do."""
    results = job.folder / "eval" / job.test.views.name / "results.json"
    if read_state(job.folder) != "DONE" or not results.is_file():
        return False
    scores = json.loads(results.read_text(encoding="utf-8"))
    job.log.line(f"done before: {headline(scores)} with {scores['views']} views · {job.folder}/report.html")
    return bool(scores["step"] == job.trainer.steps)


@contextmanager
def start_of(config: DictConfig) -> Iterator[tuple[RunStatus, Watch]]:
    """One start of a run, watched, its status.json kept true: DONE behind the block, after an error why not.

    The report is written in either case: what went wrong belongs into it.
    """
    folder = run_folder(config)
    status = RunStatus(folder)
    watch = Watch(
        folder,
        start_timeout_s=config.start_timeout,
        step_timeout_s=config.step_timeout,
        on_hang=lambda reason: status.end("FAILED", reason),
    )
    try:
        with watch:
            yield status, watch
    except FolderInUse:
        raise  # its status is another run's
    except NlnetError as error:
        status.end("PREEMPTED" if isinstance(error, Preempted) else "FAILED", message_of(error))
        raise
    except KeyboardInterrupt:
        status.end("FAILED", "interrupted; the same command goes on from the last checkpoint")
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        write_stacks(folder, reason, error)
        status.end("FAILED", reason)
        raise
    else:
        status.end("DONE")
    finally:
        if status.claimed and distributed.is_main():
            _write_report(folder)


def _write_report(folder: Path) -> None:
    try:
        print(f"report: {write_run_report(folder)}", file=sys.stderr)
    except OSError as error:  # a full disk, say: the run itself is done, or has failed for a better reason
        print(f"warning: the report cannot be written ({error})", file=sys.stderr)


def _say_costs(job: TrainJob) -> None:
    """Counts what one training clip costs, says and writes it."""
    clip = job.clips.view
    costs = cost.total(job.trainer.model, (clip.frames, clip.crop, clip.crop))
    job.log.line(costs.line())
    if distributed.is_main():
        job.log.line(memory_line(job))
        (job.folder / "costs.json").write_text(json.dumps(costs.record()) + "\n", encoding="utf-8")
        (job.folder / "classes.txt").write_text("".join(f"{name}\n" for name in job.test.videos.classes))


def _add_peak_memory(job: TrainJob) -> None:
    """Writes beside the counted costs what the main process has really taken: on a GPU its tensors, else all of it."""
    if distributed.is_main():
        device = job.trainer.device
        path = job.folder / "costs.json"
        costs = json.loads(path.read_text(encoding="utf-8"))
        on_gpu = device.type == "cuda"
        costs["peak_memory"] = torch.cuda.max_memory_allocated(device) if on_gpu else highest_resident()
        path.write_text(json.dumps(costs) + "\n", encoding="utf-8")


def memory_line(job: TrainJob) -> str:
    """What a training step will take, and what helps where that is more than there is."""
    needed, free = job.peak_memory(), available(job.trainer.device)
    line = f"peak memory of training about {needed / 2**30:.1f} GiB"
    if free is not None:
        line += f" of {free / 2**30:.1f} GiB that are free"
        if needed > free:
            line += f": this may not fit. {ADVICE}"
    return line


def _write_contact_sheet(job: TrainJob, *, num_clips: int = 6) -> None:
    """A picture of the first training clips as the network gets them: wrong colours, crops or labels show here."""
    path = job.folder / "contact_sheet.png"
    if path.exists():
        return
    whole_pairs = 2 * job.clips.repeats
    numbers = range(-(-num_clips // whole_pairs) * whole_pairs)
    batch = collate(job.clips.__getitems__(numbers), num_classes=len(job.clips.videos.classes))
    clips, labels = change_pixels(batch.clips, batch), batch.labels
    if (mix := job.trainer.data.mix) is not None:
        mixed_BCTHW, labels = mix(clips.permute(0, 4, 1, 2, 3).float(), labels, batch.numbers.tolist())
        clips = mixed_BCTHW.permute(0, 2, 3, 4, 1).round().to(torch.uint8)
    contact_sheet(list(clips.numpy()), [_title(label, job.clips.videos) for label in labels], path=path)


def _title(label: Tensor, videos: VideoList) -> str:
    """A label, or the classes of a clip with their shares: ``walk``, ``walk 70%, wave 30%``, ``none``."""
    if label.ndim == 0:
        return videos.classes[int(label)]
    shares = {videos.classes[number]: float(label[number]) for number in label.nonzero()[:, 0].tolist()}
    return ", ".join(name if share == 1 else f"{name} {share:.0%}" for name, share in shares.items()) or "none"
