"""``nlnet convert SOURCE --to OUT.pt``: weights of other projects as a checkpoint of ours, and the way back.

Reads the Caffe2 pickles of the authors and of SlowFast, SlowFast's .pyth, MMAction2's .pth, pytorchvideo's hub files
and torchvision's ResNets. Nothing that a file holds is run. What its tensors do not say is asked for. With
``--to-format``, SOURCE is a run folder or checkpoint of nlnet, and OUT a file of that project.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from nlnet.cli.arguments import Parser
from nlnet.config.convert import export_weights, import_weights
from nlnet.engine.checkpoint import write_atomically
from nlnet.errors import ConfigError


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a file of another project, or (with --to-format) of nlnet")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what the file does not say: compat=…")
    parser.add_argument("--to", type=Path, required=True, metavar="OUT", help="the file to write")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="the names of the classes, one on each line")
    parser.add_argument("--to-format", metavar="FORMAT", help="slowfast or mmaction2")
    parser.add_argument("--config-dir", help="a folder of your own YAMLs (also looked for: ./configs)")
    options = parser.parse_intermixed_args(arguments)
    if options.to.is_dir() or not options.to.absolute().parent.is_dir():
        raise ConfigError(f"--to {options.to}: must be a file in a folder that exists")
    if options.to.exists() and options.source.exists() and options.to.samefile(options.source):
        raise ConfigError(f"--to {options.to}: this is the source; give another file")
    if options.to_format is None:
        imported = import_weights(
            options.source, classes=options.classes, overrides=options.overrides, config_dir=options.config_dir
        )
        imported.save(options.to)
        lines: Sequence[str] = imported.lines
    else:
        if options.overrides or options.classes:
            raise ConfigError("--to-format takes no overrides and no classes: the checkpoint has them")
        exported = export_weights(options.source, to_format=options.to_format)
        content = dict(exported.checkpoint)
        write_atomically(options.to, lambda temporary: torch.save(content, temporary))
        lines = exported.notes
    for line in [*lines, f"written: {options.to}"]:
        print(line)
    return 0
