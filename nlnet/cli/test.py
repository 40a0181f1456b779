"""``nlnet test RUN_OR_CHECKPOINT [overrides]``: scores the validation videos with chosen views.

``--from-views`` scores some of the stored views of an earlier test again, without decoding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nlnet import distributed
from nlnet.cli.arguments import Parser
from nlnet.config.compose import check, override_stored
from nlnet.config.evaluation import (
    build_annotations,
    build_evaluation,
    choose_readers,
    combine_views,
    select_validation,
)
from nlnet.config.models import load_model
from nlnet.config.preflight import check_views
from nlnet.errors import ConfigError
from nlnet.report.page import write_run_report


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet test", description=__doc__)
    parser.add_argument("checkpoint", help="a run folder (its newest checkpoint) or a .pt file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as data/views=10x3 data.root=/videos")
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--out", type=Path, help="where the results go (default: eval/VIEWS in the run folder)")
    parser.add_argument("--store-views", action="store_true", help="keep the scores of every view: views.npz")
    parser.add_argument(
        "--from-views",
        metavar="EVAL",
        help="score stored views again: 10x3 of this run, or a folder; takes clips=[0,3] crops=[1] ensemble=largest",
    )
    options = parser.parse_intermixed_args(arguments)
    if options.from_views:
        print(_from_views(Path(options.checkpoint), options.from_views, options.overrides, options.out))
        return 0
    trained = load_model(options.checkpoint)
    # What a test needs of the stored config; ``prepare`` is not: a test makes no data.
    stored = OmegaConf.create({key: trained.config[key] for key in ("data", "device", "workers")})
    stored.threads = trained.config.get("threads", "auto")
    stored.data.prepare = None
    config = override_stored(stored, options.overrides, config_dir=options.config_dir)
    check(config)
    check_views(trained.config.model, config.data)
    device = distributed.device(config.device)
    with distributed.process_group(device):
        evaluation = build_evaluation(
            config.data,
            select_validation(build_annotations(config.data), trained.classes),
            device=device,
            readers=choose_readers(
                config.workers, config.threads, say=print if distributed.is_main() else lambda text: None
            ),
        )
        predictions = evaluation(trained.model.to(device), keep_views=options.store_views)
        run = trained.path.parent.parent
        folder = options.out or run / "eval" / evaluation.views.name
        line = evaluation.write(
            folder, predictions, model=trained.model, checkpoint=trained.path.name, step=trained.step
        )
        if distributed.is_main():
            print(line)
            print(f"report: {write_run_report(options.out or run)}")
    return 0


def _from_views(run: Path, views: str, overrides: Sequence[str], out: Path | None) -> str:
    """Scores the views that ``--store-views`` has kept, a subset of them or all, with an ensemble -> a line."""
    chosen: dict[str, Any] = {"clips": None, "crops": None, "ensemble": "mean_probability"}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or key not in chosen:
            raise ConfigError(
                f"'{override}': --from-views takes clips=[0,3] crops=[1] ensemble=largest and no other key"
            )
        chosen[key] = value if key == "ensemble" else _numbers(override, value)
    stored = run / "eval" / views
    return combine_views(stored if stored.is_dir() else Path(views), **chosen, out=out)


def _numbers(override: str, value: str) -> list[int]:
    """``[0,3,6]`` -> 0, 3, 6."""
    try:
        return [int(number) for number in value.strip("[]").split(",")]
    except ValueError:
        raise ConfigError(f"'{override}': write numbers from 0, such as clips=[0,3,6]") from None
