"""``nlnet train [overrides]``: a run from its config to its report. The same command again resumes it."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from nlnet import distributed
from nlnet.config import TrainJob, build_train, compose
from nlnet.config.runs import read_status, write_status
from nlnet.engine.predictions import headline
from nlnet.errors import NlnetError
from nlnet.models import cost
from nlnet.report.contact_sheet import contact_sheet
from nlnet.report.page import write_run_report


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet train", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config overrides, group=option too")
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--cfg", choices=["job"], help="print the composed config and stop")
    options = parser.parse_intermixed_args(arguments)
    config = compose("train", options.overrides, config_dir=options.config_dir)
    if options.cfg:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    with distributed.process_group(distributed.device(config.device)):
        job = build_train(config)
        if not distributed.on_main(lambda: finished(job)):
            with status_of(job.folder):
                train(job)
    return 0


def train(job: TrainJob) -> None:
    """Trains, and tests the final weights with the chosen views."""
    _say_costs(job)
    if distributed.is_main():
        _write_contact_sheet(job)
    job.trainer.fit()
    folder = job.folder / "eval" / job.test.views.name
    job.log.line(job.test.write(folder, job.test(job.model), checkpoint="last", step=job.trainer.step))
    job.log.close()


def finished(job: TrainJob) -> bool:
    """Whether this run is done and tested with these views: the same command again has nothing to do."""
    results = job.folder / "eval" / job.test.views.name / "results.json"
    if read_status(job.folder) != "DONE" or not results.is_file():
        return False
    scores = json.loads(results.read_text(encoding="utf-8"))
    job.log.line(f"done before: {headline(scores)} with {scores['views']} views · {job.folder}/report.html")
    return bool(scores["step"] == job.trainer.steps)


@contextmanager
def status_of(folder: Path) -> Iterator[None]:
    """Keeps status.json of a run folder true: RUNNING in the block, DONE behind it, FAILED and why after an error.

    The report is written in either case: what went wrong belongs into it.
    """
    if not distributed.is_main():
        yield
        return
    write_status(folder, "RUNNING")
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, NlnetError) else f"{type(error).__name__}: {error}"
        write_status(folder, "FAILED", reason)
        raise
    else:
        write_status(folder, "DONE")
    finally:
        print(f"report: {write_run_report(folder)}", file=sys.stderr)


def _say_costs(job: TrainJob) -> None:
    """Counts what one training clip costs, says and writes it."""
    clip = job.clips.view
    costs = cost.total(job.model, (clip.frames, clip.crop, clip.crop))
    job.log.line(costs.line())
    if distributed.is_main():
        (job.folder / "costs.json").write_text(json.dumps(costs.record()) + "\n", encoding="utf-8")
        (job.folder / "classes.txt").write_text("".join(f"{name}\n" for name in job.test.videos.classes))


def _write_contact_sheet(job: TrainJob, *, num_clips: int = 6) -> None:
    """A picture of the first training clips as the network gets them: wrong colours, crops or labels show here."""
    path = job.folder / "contact_sheet.png"
    if path.exists():
        return
    samples = [job.clips[number] for number in range(min(num_clips, len(job.clips.videos)))]
    contact_sheet(
        [sample.clip.numpy() for sample in samples],
        [job.clips.videos.class_names(sample.label) for sample in samples],
        path=path,
    )
