"""``nlnet predict RUN_OR_CHECKPOINT VIDEO…``: the most likely classes of each video, from the checkpoint alone."""

import json
import sys
from collections.abc import Sequence

from nlnet.cli.arguments import Parser
from nlnet.config.models import load_model


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet predict", description=__doc__)
    parser.add_argument("checkpoint", help="a run folder (its newest checkpoint) or a .pt file")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument(
        "--views",
        default=None,
        help="1x1, 10x1, 10x3, fcn or any other option of data/views (default: as in its training)",
    )
    parser.add_argument("--top", type=int, default=5, help="how many classes to name")
    parser.add_argument("--json", action="store_true", help="print JSON: one object per video, on one line")
    options = parser.parse_intermixed_args(arguments)
    trained = load_model(options.checkpoint, device="auto")
    predictions = trained.score(options.videos, views=options.views)
    for index, video in enumerate(options.videos):
        if index in predictions.errors:
            print(f"nlnet predict: {video}: {predictions.errors[index]}", file=sys.stderr)
            continue
        named = trained.best(predictions.scores[index], top=options.top)
        if options.json:
            print(json.dumps({"video": video, "top": [{"class": name, "score": score} for name, score in named]}))
        else:
            print(video)
            for name, score in named:
                print(f"  {score:6.1%}  {name}")
    return 2 if predictions.errors else 0
