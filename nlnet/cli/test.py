"""``nlnet test RUN_OR_CHECKPOINT [overrides]``: scores the validation videos with chosen views."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from nlnet import distributed
from nlnet.config.compose import check, override_stored
from nlnet.config.evaluation import build_annotations, build_evaluation, choose_workers, select_validation
from nlnet.config.models import load_model


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet test", description=__doc__)
    parser.add_argument("checkpoint", help="a run folder (its newest checkpoint) or a .pt file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as data/views=10x3 data.root=/videos")
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    parser.add_argument("--out", type=Path, help="where the results go (default: eval/VIEWS in the run folder)")
    options = parser.parse_intermixed_args(arguments)
    trained = load_model(options.checkpoint)
    # What a test needs of the stored config; ``prepare`` is not: a test makes no data.
    stored = OmegaConf.create({key: trained.config[key] for key in ("data", "device", "workers")})
    stored.data.prepare = None
    config = override_stored(stored, options.overrides, config_dir=options.config_dir)
    check(config)
    device = distributed.device(config.device)
    with distributed.process_group(device):
        evaluation = build_evaluation(
            config.data,
            select_validation(build_annotations(config.data), trained.classes),
            device=device,
            workers=choose_workers(config.workers, say=print if distributed.is_main() else lambda text: None),
        )
        predictions = evaluation(trained.model.to(device))
        folder = options.out or trained.path.parent.parent / "eval" / evaluation.views.name
        line = evaluation.write(folder, predictions, checkpoint=trained.path.name, step=trained.step)
        if distributed.is_main():
            print(line)
    return 0
