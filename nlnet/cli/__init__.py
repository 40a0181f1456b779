"""``nlnet VERB …``, and the mains that ``tools/VERB.py`` call. One file per verb, imported when it is asked for."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from nlnet.errors import NlnetError, message_of

VERBS = {
    "train": "train a network from a config, or go on with it, and test it",
    "test": "evaluate a checkpoint with chosen views",
    "predict": "name what is done in videos",
    "visualize": "show what the non-local blocks attend to in a video, and what speaks for a class",
    "export": "write a trained network as torch.export and ONNX files, checked against it",
    "launch": "start a command in several processes here, or as a job of Slurm",
    "sweep": "train the rows of an ablation table and print it",
    "data": "prepare videos: lists, checks, smaller files, statistics, tar shards",
    "benchmark": "count or measure what networks cost",
    "convert": "read weights of other projects, and write ours for them",
    "report": "write the HTML report of a run or sweep",
    "doctor": "say what a report of a problem needs: versions, devices, limits, probes",
    "demo": "make a small data set, compare C2D with non-local blocks on it, and show the report",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: see ``nlnet.errors``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["--version"]:
        import nlnet

        print(nlnet.__version__)
        return 0
    if arguments and arguments[0] not in VERBS and arguments[0] not in ("-h", "--help"):
        near = get_close_matches(arguments[0], VERBS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(VERBS)}"
        print(f"nlnet: '{arguments[0]}': no such verb; {hint}", file=sys.stderr)
        return 2
    if not arguments or arguments[0] not in VERBS:
        print("usage: nlnet VERB …   (nlnet VERB --help tells more)\n")
        for verb, what in VERBS.items():
            print(f"  {verb:<11}{what}")
        return 0
    return run(arguments[0], arguments[1:])


def run(verb: str, arguments: Sequence[str] | None = None) -> int:
    """One verb. Errors that are meant for people come out as one line, without a traceback."""
    try:
        code: int = import_module(f"nlnet.cli.{verb}").main(sys.argv[1:] if arguments is None else list(arguments))
        return code
    except NlnetError as error:
        print(f"nlnet {verb}: {message_of(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"nlnet {verb}: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
