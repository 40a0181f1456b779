"""``nlnet test RUN_OR_CHECKPOINT [overrides]``: scores the validation videos with chosen views."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nlnet import distributed
from nlnet.config.build import (
    build_annotations,
    build_evaluation,
    choose_workers,
    find_checkpoint,
    load_model,
    select_validation,
)
from nlnet.config.compose import check, override_stored


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet test", description=__doc__)
    parser.add_argument("checkpoint", help="a run folder (its newest checkpoint) or a .pt file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as data/views=10x3 data.root=/videos")
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--out", type=Path, help="where the results go (default: eval/VIEWS in the run folder)")
    options = parser.parse_intermixed_args(arguments)
    path = find_checkpoint(options.checkpoint)
    trained = load_model(path)
    config = override_stored(trained.config, options.overrides, config_dir=options.config_dir)
    check(config, trusted=bool(options.overrides))
    config.data.prepare = None  # a test makes no data
    device = distributed.device(config.device)
    with distributed.process_group(device):
        evaluation = build_evaluation(
            config.data,
            select_validation(build_annotations(config.data), trained.classes),
            device=device,
            workers=choose_workers(config.workers, say=print),
        )
        predictions = evaluation(trained.model.to(device))
    folder = options.out or path.parent.parent / "eval" / evaluation.views.name
    line = evaluation.write(folder, predictions, checkpoint=path.name, step=trained.step)
    if distributed.is_main():
        print(line)
    return 0
