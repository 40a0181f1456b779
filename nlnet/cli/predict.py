"""``nlnet predict RUN_OR_CHECKPOINT VIDEO…``: the most likely classes of each video, from the checkpoint alone."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from nlnet import distributed
from nlnet.config.compose import override_stored
from nlnet.config.evaluation import build_evaluation
from nlnet.config.models import load_model
from nlnet.data.annotations import Video, VideoList


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="nlnet predict", description=__doc__)
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
    trained = load_model(options.checkpoint)
    views = [f"data/views={options.views}"] if options.views else []
    config = override_stored(trained.config, views)
    videos = tuple(Video(path=str(Path(name).resolve()), label=0, name=name) for name in options.videos)
    device = distributed.device("auto")
    evaluation = build_evaluation(
        config.data, VideoList(videos, trained.classes, "the command line"), device=device, workers=0
    )
    predictions = evaluation(trained.model.to(device))
    failed = 0
    for index, video in enumerate(videos):
        if index in predictions.errors:
            failed += 1
            print(f"nlnet predict: {video.name}: {predictions.errors[index]}", file=sys.stderr)
            continue
        best = predictions.scores[index].topk(min(options.top, len(trained.classes)))
        named = [
            (trained.classes[k], score) for score, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        if options.json:
            print(json.dumps({"video": video.name, "top": [{"class": name, "score": score} for name, score in named]}))
        else:
            print(video.name)
            for name, score in named:
                print(f"  {score:6.1%}  {name}")
    return 2 if failed else 0
