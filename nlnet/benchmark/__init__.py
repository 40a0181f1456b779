"""What ``nlnet benchmark NAME`` measures: a file for each benchmark, and what they share.

A benchmark is a module of this package with a first docstring line for the help, ``add_options(parser)`` and
``run(options) -> Report``; its name goes into BENCHMARKS. How things are measured is in ``timing`` (time, in
interleaved turns), ``peaks`` (memory, in processes of their own) and ``machine`` (what the machine could do at best).
"""

BENCHMARKS = {
    "cost": "what a network costs, part by part, counted without running it",
    "model": "inference and training steps of a network: clips/s, share of the matrix rate, peak memory",
    "layers": "a training step layer by layer, beside the textbook's layers",
    "block": "one non-local block in each form, beside the textbook's: time and peak memory",
    "memory": "peak memory of training by precision and batch: estimated, and measured beside it",
    "loader": "training clips as they come from the videos, without a network: clips/s",
    "tables": "the tables of docs/performance.md, in one run",
    "train": "training as nlnet train does it: loader and step together, data-wait share",
}
